"""The space of a recipe: which settings are open, what is fixed, how files change it."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_zoo.config import Search
from recsys_zoo.errors import InputError
from recsys_zoo.runs import RunConfig
from recsys_zoo.space import space_of
from tests.dice import Answers, Dice


def recipe(name: str, train: dict | None = None, **model) -> RunConfig:
    return RunConfig(data="toy", model={"name": name, **model}, train=train or {}).resolved()


def tuned(name: str, **model) -> set[str]:
    return {setting.removeprefix("model.") for setting in space_of(recipe(name, **model)).tuned}


def ranges(text: str, cfg: RunConfig, **more):
    Path("space.toml").write_text(text)
    return space_of(cfg, file=Path("space.toml"), **more)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({}, "low and high, or choices"),
        ({"low": 0.0}, "low and high, or choices"),
        ({"low": 1.0, "high": 1.0}, "not below"),
        ({"low": 0.0, "high": 1.0, "log": True}, "above 0"),
        ({"low": 0.1, "high": 1.0, "log": True, "step": 0.1}, "no step"),
        ({"low": 0.0, "high": 1.0, "step": 0.0}, "step = 0.0"),
        ({"low": 0.0, "high": 1.0, "zero": True}, "above 0"),
        ({"low": 0.0, "high": 1.0, "choices": (1,)}, "exclude"),
    ],
)
def test_ranges_that_are_none(values, wrong):
    with pytest.raises(InputError, match=wrong):
        Search(**values)


@pytest.mark.parametrize(
    ("structure", "there", "not_there"),
    [
        ("parallel", {"hidden", "dropout", "batch_norm"}, {"stacked_hidden"}),
        ("stacked", {"stacked_hidden", "dropout", "batch_norm"}, {"hidden"}),
    ],
)
def test_a_choice_opens_its_own_settings_alone(structure, there, not_there):
    trial = Answers(structure=f'"{structure}"')
    values = space_of(recipe("dcnv2")).draw(trial)
    assert values["model.structure"] == structure
    for asked in (set(trial.asked), set(values)):
        names = {name.removeprefix("model.") for name in asked}
        assert there <= names
        assert not names & not_there


def test_a_closed_setting_closes_those_below_it():
    """Without gates there is no gate MLP; cross layers alone have no MLP and so no dropout."""
    assert "model.gate_hidden" in space_of(recipe("finalmlp")).draw(Answers(gates="true"))
    assert "model.gate_hidden" not in space_of(recipe("finalmlp")).draw(Answers(gates="false"))
    assert not tuned("dcnv2.crossnet") & {"structure", "hidden", "dropout", "batch_norm", "stacked_hidden"}
    below = ranges('model.dropout = {low = 0.1, high = 0.2, when = "hidden"}', recipe("deepfm", hidden=[]))
    assert "model.dropout" not in below.tuned


def test_a_store_opens_its_buckets():
    assert "embedding.store.buckets" not in tuned("lr")
    hashed = recipe("lr", embedding={"store": {"name": "hashed", "buckets": 5000}})
    assert "model.embedding.store.buckets" in space_of(hashed).tuned
    both = ranges('model.embedding.store.name = {choices = ["dense", "hashed"]}', recipe("lr"))
    assert "model.embedding.store.buckets" in both.draw(Answers(name='"hashed"'))
    assert "model.embedding.store.buckets" not in both.draw(Answers(name='"dense"'))


def test_the_recipe_decides_whether_there_is_an_mlp_and_tuning_how_wide_it_is():
    assert "hidden" not in tuned("autoint")
    assert "dropout" not in tuned("autoint")
    assert {"hidden", "dropout", "batch_norm"} <= tuned("autoint.plus")
    assert "hidden" not in tuned("dcn.crossnet")
    assert "experts" not in tuned("dcnv2")
    assert {"experts", "rank"} <= tuned("dcnv2.mixture")


def test_what_makes_the_variant_is_not_tuned():
    assert "scale" in tuned("autoint")
    assert "scale" not in tuned("autoint.official")
    assert "scale" in tuned("autoint.official", scale=False)  # the recipe left the preset
    assert "embedding.init_std" in tuned("autoint.official")  # every model's
    assert "interaction" not in tuned("fmfm.vector")


def test_what_the_user_fixes_is_not_tuned_and_only_restricts():
    cfg = recipe("deepfm")
    assert "train.lr" not in space_of(cfg, fixed=["train.lr"]).tuned
    assert not [name for name in space_of(cfg, fixed=["train"]).tuned if name.startswith("train.")]
    assert space_of(cfg, only=["model.dropout", "train.lr"]).tuned == ("model.dropout", "train.lr")
    with pytest.raises(InputError, match=r"no setting to tune named 'train.lrr'; did you mean \['train.lr'"):
        space_of(cfg, only=["train.lrr"])
    with pytest.raises(InputError, match="no setting is left to tune"):
        space_of(cfg, fixed=["model", "train"])


def test_ranges_are_widened_to_hold_the_recipe():
    found = space_of(recipe("deepfm", {"lr": 0.05, "table_l2": 0}, hidden=[7], dropout=0.7)).record()
    assert found["model.hidden"]["choices"][-1] == [7]
    assert (found["model.dropout"]["low"], found["model.dropout"]["high"]) == (0.0, 0.7)
    assert (found["train.lr"]["low"], found["train.lr"]["high"]) == (1e-4, 0.05)
    assert found["train.table_l2"] == {"low": 1e-6, "high": 0.5, "log": True, "zero": True}


def test_the_first_trial_is_the_recipe():
    cfg = recipe("autoint.plus", {"lr": 0.003}, hidden=[9, 9])
    space = space_of(cfg)
    assert space.configure(space.own_values()) == cfg
    assert space.own_values()["model.hidden"] == [9, 9]


def test_zero_is_drawn_beside_a_range_in_the_logarithm():
    values = [space_of(recipe("lr")).draw(Dice(seed))["train.table_l2"] for seed in range(60)]
    assert 15 < values.count(0) < 45
    others = [value for value in values if value]
    assert all(1e-6 <= value <= 0.5 for value in others)
    assert sum(value < 1e-3 for value in others) > len(others) / 4  # evenly in the value there would be none
    assert all(float(f"{value:.4g}") == value for value in values)


def test_a_file_narrows_changes_and_adds():
    found = ranges(
        """
        model.dropout = {high = 0.2}
        model.hidden = {choices = [[8], [16]]}
        train.batch_size = {low = 256, high = 1024, log = true}
        [train.net_l2]
        choices = [0.0, 1e-5]
        """,
        recipe("deepfm", hidden=[8]),
    )
    record = found.record()
    assert record["model.dropout"] == {"low": 0.0, "high": 0.2, "step": 0.1, "when": "hidden"}
    assert record["model.hidden"] == {"choices": [[8], [16]], "when": "hidden"}
    assert record["train.batch_size"] == {"low": 256, "high": 1024, "log": True}  # the recipe has 4096
    assert record["train.net_l2"] == {"choices": [0.0, 1e-5]}
    assert {"train.batch_size", "train.lr"} <= set(found.tuned)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model.dropuot = {low = 0, high = 1}", "no setting named 'model.dropuot'; did you mean"),
        ("model.dropout = {low = 0.1, hihg = 1}", "model.dropout: no key named 'hihg'; did you mean"),
        ("model.dropout = 0.3", "model.dropout: write {low = ..., high = ...}"),
        ("model.dropout = {low = 0.4, high = 0.2}", "model.dropout: low = 0.4 is not below high = 0.2"),
        ("model.dropout = {low = 0.0, high = 1.5}", "model.dropout cannot be 1.5: model deepfm: dropout"),
        ('train.lr = {low = "a"}', "train.lr: low = 'a' is not a number"),
        ("train.lr = {choices = 3}", "train.lr: choices = 3 is not a list"),
        ("model.hidden = {choices = [[0]]}", "model.hidden cannot be [0]"),
        ('train.lr = {low = 1e-4, high = 1, when = "nothing"}', "when: no setting named 'train.nothing'"),
    ],
)
def test_mistakes_in_a_file(text, said):
    with pytest.raises(InputError) as error:
        ranges(text, recipe("deepfm"))
    assert str(error.value).startswith("space.toml: ")
    assert said in str(error.value)


def test_the_tree_shows_what_depends_on_what():
    lines = space_of(recipe("dcnv2")).tree().splitlines()
    names = [line.split()[0] for line in lines]
    assert lines[names.index("model.structure")].startswith("  model.structure ")
    hidden = lines[names.index("model.hidden")]
    assert hidden.startswith("    model.hidden ")
    assert "where structure is parallel or stacked_parallel" in hidden
    assert "(recipe: [400, 400, 400])" in hidden
    assert set(names) == set(space_of(recipe("dcnv2")).tuned)


def test_one_file_serves_models_that_are_trained_and_those_that_are_fitted_at_once():
    text = "train.batch_size = {choices = [512, 2048]}"
    assert "train.batch_size" in ranges(text, recipe("mf")).tuned
    assert ranges(text, recipe("ease")).tuned == ("model.l2",)
    with pytest.raises(InputError, match="popularity: no setting is left to tune"):
        ranges(text, recipe("popularity"))
