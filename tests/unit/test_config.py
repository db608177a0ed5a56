"""Settings: refused with near matches, frozen, and the same after a trip through TOML."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_zoo.config import Frozen, read_toml, set_dotted, write_toml
from recsys_zoo.errors import InputError, UnknownName, unknown_name
from recsys_zoo.runs import RunConfig
from recsys_zoo.train.config import TrainConfig

scalar = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), st.text(max_size=8)
)
tables = st.recursive(
    st.dictionaries(st.text(max_size=5), st.one_of(scalar, st.lists(scalar, max_size=3)), max_size=4),
    lambda inner: st.dictionaries(
        st.text(max_size=5), st.one_of(inner, st.lists(inner, min_size=1, max_size=2)), max_size=3
    ),
    max_leaves=6,
)


@given(tables)
def test_toml_round_trip(values):
    assert tomllib.loads(write_toml(values)) == values


def test_toml_reads_exponents_as_numbers():
    assert tomllib.loads(write_toml({"lr": 1e-3, "l2": 1e-06}))["l2"] == 1e-6


def test_none_has_no_toml_form():
    with pytest.raises(ValueError, match="no null"):
        write_toml({"a": None})


class Inner(Frozen):
    layers: int = 3


class Outer(Frozen):
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = ()


def test_a_misspelt_nested_setting_names_its_near_match():
    with pytest.raises(
        InputError, match=r"run.toml: no setting named 'inner.layer'; did you mean \['inner.layers'\]"
    ):
        Outer.parse({"inner": {"layer": 2}}, "run.toml")
    with pytest.raises(InputError, match=r"parts.0.layerz'; did you mean \['parts.0.layers'\]|layers"):
        Outer.parse({"parts": [{"layerz": 2}]}, "run.toml")


def test_a_setting_is_found_by_its_meaning():
    with pytest.raises(InputError, match=r"'learning_rate'; did you mean \['lr'"):
        TrainConfig.parse({"learning_rate": 1e-3}, "run.toml")
    with pytest.raises(InputError, match=r"'rate'; (?!did you mean \['lr'\])"):  # one word says too little
        TrainConfig.parse({"rate": 1e-3}, "run.toml")


def test_a_wrong_value_names_setting_and_value():
    with pytest.raises(InputError, match=r"run.toml: inner.layers = 'many': input should be a valid integer"):
        Outer.parse({"inner": {"layers": "many"}}, "run.toml")
    with pytest.raises(InputError, match=r"lr = 0: input should be greater than 0"):
        TrainConfig.parse({"lr": 0}, "train")
    with pytest.raises(InputError, match=r"run.toml: parts = 'one': input should be a valid list$"):
        Outer.parse({"parts": "one"}, "run.toml")


@pytest.mark.parametrize(("values", "said"), [
    ({"board": "a/b"}, r"x.toml: board = 'a/b': give the name of the row's board and of its folder, without"),
    ({"train": {"device": "gpu"}}, r"x.toml: train.device = 'gpu': give auto \(cuda .*\), cpu, cuda"),
])
def test_what_has_a_form_is_asked_for_in_words(values, said):
    with pytest.raises(InputError, match=said):
        RunConfig.parse({"model": {}, **values}, "x.toml")


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Outer().inner = Inner(layers=4)


def test_set_dotted():
    values: dict = {"model": {"name": "fm"}}
    for assignment in (
        "model.layers=3",
        "train.lr=1e-3",
        "train.precision=bf16",
        "model.hidden=[8, 8]",
        "note=a b",
    ):
        set_dotted(values, assignment)
    assert values == {
        "model": {"name": "fm", "layers": 3, "hidden": [8, 8]},
        "train": {"lr": 1e-3, "precision": "bf16"},
        "note": "a b",
    }
    with pytest.raises(InputError, match="write it as key=value"):
        set_dotted(values, "model.layers")
    with pytest.raises(InputError, match="'note' is not a group"):
        set_dotted(values, "note.x=1")


def test_bad_toml_names_file_and_line(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("a = 1\nb = = 2\n")
    with pytest.raises(InputError, match=r"r.toml: not valid TOML: .*line 2"):
        read_toml(path)
    with pytest.raises(InputError, match="no such file"):
        read_toml(tmp_path / "none.toml")


def test_unknown_names_are_value_and_key_errors():
    error = unknown_name("model", "autoin", ["autoint", "fm"])
    assert isinstance(error, UnknownName)
    assert isinstance(error, ValueError)
    assert isinstance(error, KeyError)
    assert str(error) == "no model named 'autoin'; did you mean ['autoint']?"


@pytest.mark.parametrize("name", ["auc", "auc-logloss", "recall@20", "ndcg@1", "map@100"])
def test_a_monitor_is_a_metric(name):
    assert TrainConfig.parse({"monitor": name}, "train").monitor == name


@pytest.mark.parametrize(("name", "said"), [("acu", r"did you mean \['auc'"), ("recal@20", r"\['recall@20'"),
                                            ("recall@0", r"\['recall@20'"), ("f1", "choose one of")])
def test_what_is_no_metric_is_refused(name, said):
    with pytest.raises(InputError, match=rf"train: monitor = '{name}': no metric of this name; .*{said}"):
        TrainConfig.parse({"monitor": name}, "train")
