"""Every model: how it is built, described, saved and refused."""

from __future__ import annotations

import csv
import json

import pytest
import torch
from pydantic import BaseModel
from safetensors.torch import load_file, save_file

from recsys_zoo import create, list_models
from recsys_zoo.catalog import published
from recsys_zoo.errors import InputError, UnknownName
from recsys_zoo.zoo import resolve
from tests import toys
from tests.contract import harness

each = pytest.mark.parametrize("name", harness.CTR)


@each
def test_builds_from_defaults_and_gives_a_logit_a_row(name):
    model = create(name, toys.MIXED)
    logits = model(toys.inputs(toys.MIXED, 7))
    assert logits.shape == (7,)
    assert logits.dtype == torch.float32
    assert logits.requires_grad
    assert model.name == name.partition(".")[0]


SCHEMAS = {
    "one field": toys.schema(toys.categorical("a", 5)),
    "vocabularies of one row": toys.one_hot_schema(3, 2),
    "numeric only": toys.schema(toys.numeric("a"), toys.numeric("b")),
    "numeric and bag": toys.schema(toys.numeric("a"), toys.bag("b", 6, 3)),
    "bag alone": toys.schema(toys.bag("b", 6, 3)),
    "shared vocabulary": toys.schema(toys.categorical("a", 6), toys.bag("b", 6, 3, share_with="a")),
}


@each
@pytest.mark.parametrize("schema", SCHEMAS.values(), ids=SCHEMAS)
def test_works_on_any_schema_down_to_one_row(name, schema):
    model = harness.make(name, schema).eval()
    x = toys.inputs(schema, 3)
    together = model(x)
    assert torch.isfinite(together).all()
    one = model(x.rows(0, 1))
    assert one.shape == (1,)
    torch.testing.assert_close(one, together[:1], rtol=1e-5, atol=1e-6)
    together.sum().backward()


@each
def test_card_is_complete(name):
    card = resolve(name)[0].card
    assert card.family == "ctr"
    assert all((card.name, card.title, card.authors, card.equations))
    assert card.published or "Its authors give no number on public data." in card.notes
    assert 1950 < card.year < 2100
    assert card.url.startswith("https://")
    for row in card.published:
        assert row.source
        assert 0.5 < row.metrics["auc"] < 1
    assert "recalled" not in card.model_dump_json()
    assert "[R]" not in card.model_dump_json()


def test_numbers_of_a_card_stand_in_the_table_of_their_board():
    """All that the cards have from BARS, to the four places that its boards print."""
    found = 0
    for name in (name for name in list_models() if "." not in name):
        for row in resolve(name)[0].card.published:
            table = published(row.board)
            if table is None or "BARS" not in row.source:
                continue
            printed = {line["model"]: line for line in csv.DictReader(table.open(encoding="utf-8"))}
            for metric, value in row.metrics.items():
                assert round(value, 4) == float(printed[name][metric]), (name, row.board, metric)
                found += 1
    assert found >= 108


@each
def test_every_setting_is_described(name):
    config = resolve(name)[0].Config
    for key, field in config.model_fields.items():
        nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        assert nested or field.description, f"{name}: {key} has no description"


@each
def test_settings_survive_json(name):
    cls, cfg = resolve(name, {"embedding": {"dim": 4, "widths": {"user": 4}}})
    again = cls.Config.parse(json.loads(cfg.model_dump_json()), name)
    assert again == cfg
    assert again.digest() == cfg.digest()


@each
def test_misspelt_settings_are_refused_with_near_matches(name):
    with pytest.raises(InputError, match=r"'embeding'; did you mean \['embedding'"):
        create(name, toys.MIXED, embeding={})
    with pytest.raises(InputError, match=r"did you mean \['embedding\.dim'"):
        create(name, toys.MIXED, embedding={"dimm": 4})
    with pytest.raises(InputError, match="dim"):
        create(name, toys.MIXED, embedding={"dim": 0})


def test_misspelt_names_are_refused_with_near_matches():
    with pytest.raises(UnknownName, match="autoint"):
        create("autoin", toys.MIXED)
    with pytest.raises(UnknownName, match="official"):
        create("autoint.oficial", toys.MIXED)


def test_presets_are_listed_and_joined_from_left_to_right():
    assert {"autoint", "autoint.plus", "dcnv2.crossnet"} <= set(list_models(family="ctr"))
    assert list_models("*pfm", family="ctr") == ["deepfm", "xdeepfm"]
    assert set(list_models("*fm", family="ctr")) >= {"deepfm", "fm", "ffm", "fwfm"}
    joined = resolve("autoint.plus.official")[1]
    assert (joined.hidden, joined.norm) == ((400, 400), "post_relu")
    assert resolve("autoint.official.paper")[1] == resolve("autoint.paper")[1] == resolve("autoint")[1]


@each
def test_saved_weights_give_equal_outputs(name, tmp_path):
    model, x = harness.trained(name)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = create(name, toys.MIXED, seed=2, embedding={"dim": 4}).eval()
    assert not torch.equal(other(x), model(x))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(x), model(x))


@each
def test_names_in_the_state_dict_are_stable(name):
    """Saved models must load in later versions; tests/contract/golden.py writes the list anew."""
    assert harness.shapes(harness.make(name)) == harness.read("state_names.json")[name]


@each
def test_seed_fixes_the_weights_and_leaves_the_global_state_alone(name):
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, second = harness.make(name), harness.make(name)
    assert torch.equal(torch.rand(1), expected)
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
