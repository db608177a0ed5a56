"""FuxiCTR's data sets: their columns, listed or in a feature map, as our schema."""

from __future__ import annotations

import json

import polars as pl
import pytest

from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.errors import InputError
from recsys_zoo.importers.fuxictr import import_fuxictr
from recsys_zoo.importers.imported import write_imported

from .fuxi import edit


def test_the_schema_and_what_differs(folder):
    found = import_fuxictr(folder, "autoint")
    lines = write_imported(found, folder / "out.toml", folder / "schema.toml")
    spec = DataSpec.load(folder / "schema.toml")
    columns = {c.name: c for c in spec.columns}
    assert list(columns) == ["user", "item", "price", "weight", "age", "seen"]
    assert [label.name for label in spec.labels] == ["click"]
    assert (columns["user"].min_count, columns["user"].side) == (2, "user")
    assert (columns["price"].kind, columns["price"].rule) == ("numeric", "standardise")
    assert columns["weight"].rule == "linear"
    assert (columns["age"].kind, columns["age"].rule, columns["age"].bins) == ("categorical", "quantile", 7)
    seen = columns["seen"]
    assert (seen.kind, seen.separator, seen.max_len, seen.share_with) == ("bag", "^", 5, "item")
    said = "\n".join(lines)
    for piece in (
        "normalizer 'MinMaxScaler' is not here",
        "'vector' of type 'embedding' has no counterpart",
        "column 'seen': its vocabulary is counted over both",
        "the same seed draws other random numbers",
        "one padding row a table",
    ):
        assert piece in said
    head = (folder / "out.toml").read_text(encoding="utf-8").splitlines()
    assert all(f"# {line}" in head for line in found.differences)


def test_options_of_columns(folder):
    edit(folder, "dataset_config.yaml", "source: user}", "embedding_dim: 4, pretrained_emb: v.h5}")
    edit(
        folder,
        "dataset_config.yaml",
        "min_categr_count: 2",
        "train_data: a.csv\n    valid_data: b.csv\n"
        "    test_data: b.csv\n    min_categr_count: 2\n    test_size: 0.1\n    speed: 9",
    )
    edit(
        folder,
        "dataset_config.yaml",
        "share_embedding: item}",
        'padding: pre, feature_encoder: "layers.MaskedSumPooling()"}',
    )
    found = import_fuxictr(folder, "autoint")
    said = write_imported(found, folder / "out.toml", folder / "schema.toml")
    text = "\n".join(said)
    assert found.recipe["model"]["embedding"]["widths"] == {"user": 4, "item": 4}
    assert found.recipe["model"]["embedding"]["pooling"] == "sum"
    spec = DataSpec.load(folder / "schema.toml")
    assert {c.name: c.kind for c in spec.columns}["seen"] == "sequence"
    for piece in (
        "column 'item': pretrained_emb = 'v.h5' has no counterpart",
        "valid_data is test_data",
        "test_size = 0.1 (sequential) is not applied",
        "speed = 9 of the data set",
    ):
        assert piece in text
    assert said[-1].startswith(
        "next: recsys-zoo prepare a.csv --split valid=b.csv --split test=b.csv --schema "
    )


def test_a_sequence_is_split_and_cut_as_there(folder):
    """FuxiCTR's defaults: '^' between values, the first max_len of them are kept (padding behind)."""
    edit(folder, "dataset_config.yaml", 'splitter: "^", max_len: 5, share_embedding: item}', "max_len: 2}")
    write_imported(import_fuxictr(folder, "autoint"), folder / "out.toml", folder / "schema.toml")
    rows = [("u", "i", "1", "1", str(k), text, k % 2) for k, text in enumerate(["a^b^c", "b", "a^b", "c^c"])]
    names = ["user", "item", "price", "weight", "age", "seen", "click"]
    for file in ("train", "valid"):
        pl.DataFrame(rows, schema=names, orient="row").write_csv(folder / f"{file}.csv")
    data = prepare(
        [folder / "train.csv"],
        DataSpec.load(folder / "schema.toml"),
        folder / "prepared",
        split_files={"valid": [folder / "valid.csv"]},
    )
    encoder = Encoder.open(folder / "prepared" / "encoding")
    ids = data.split("valid").inputs(slice(None)).bags["seen"].numpy()
    assert [[v for v in encoder.decode("seen", row) if v] for row in ids] == [
        ["a", "b"],
        ["b"],
        ["a", "b"],
        ["c", "c"],
    ]


def test_missing_numbers_are_filled_before_the_scaler(folder):
    write_imported(import_fuxictr(folder, "autoint"), folder / "out.toml", folder / "schema.toml")
    price = {c.name: c for c in DataSpec.load(folder / "schema.toml").columns}["price"]
    assert price.fill == 0.0


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("{name: click, dtype: float}", "click", "label_col: 'click' is no table with a name"),
        ("{name: click, dtype: float}", "[{dtype: float}]", "label_col: {'dtype': 'float'} is no table with"),
        ("{name: vector, dtype: str", "{dtype: str", "feature_cols: {'dtype': 'str', 'type': "),
        ("max_len: 5", "max_len: long", "column 'seen': max_len = 'long': is no number"),
        ("num_buckets: 7", "num_buckets: x", "column 'age': num_buckets = 'x': is no number"),
        ("normalizer: MinMaxScaler", "fill_na: x", "column 'weight': fill_na = 'x': is no number"),
        ("source: user", "min_categr_count: few", "column 'user': min_categr_count = 'few': is no number"),
        ("source: user", "embedding_dim: wide", "column 'user': embedding_dim = 'wide': is no number"),
    ],
)
def test_a_data_set_of_another_form(folder, old, new, said):
    edit(folder, "dataset_config.yaml", old, new)
    with pytest.raises(InputError) as error:
        import_fuxictr(folder, "autoint")
    assert said in str(error.value)


def test_several_encoders_of_a_sequence_are_said(folder):
    text = "feature_encoder: [layers.A(), layers.B()], max_len: 5"
    edit(folder, "dataset_config.yaml", "max_len: 5", text)
    said = import_fuxictr(folder, "autoint").differences
    wanted = "sequences with feature_encoder \"['layers.A()', 'layers.B()']\" are pooled by the mean here"
    assert wanted in said


def test_the_smallest_count_of_the_data_set_wins(folder):
    edit(folder, "model_config.yaml", "use_wide: False", "use_wide: False\n    min_categr_count: 9")
    columns = {c["name"]: c for c in import_fuxictr(folder, "autoint").schema["columns"]}
    assert columns["user"]["min_count"] == 2


MAP = {
    "dataset_id": "encoded",
    "num_fields": 4,
    "total_features": 41,
    "labels": ["click"],
    "features": [
        {"user": {"source": "user", "type": "categorical", "padding_idx": 0, "vocab_size": 9}},
        {"item": {"source": "item", "type": "categorical", "vocab_size": 31, "embedding_dim": 4}},
        {"price": {"source": "", "type": "numeric"}},
        {"seen": {"type": "sequence", "share_embedding": "item", "vocab_size": 31, "max_len": 5}},
        {"session": {"type": "meta"}},
    ],
}


def test_columns_of_a_feature_map(folder):
    edit(folder, "model_config.yaml", "dataset_id: shop", "dataset_id: encoded")
    (folder / "encoded").mkdir()
    (folder / "encoded" / "feature_map.json").write_text(json.dumps(MAP), encoding="utf-8")
    edit(folder, "dataset_config.yaml", "encoded: {", f"encoded: {{data_root: '{folder}', ")
    found = import_fuxictr(folder, "autoint", folder / "encoded")
    assert found.schema == {
        "dataset": "encoded",
        "labels": ["click"],
        "columns": [
            {"name": "user", "side": "user", "kind": "categorical", "min_count": 1},
            {"name": "item", "side": "item", "kind": "categorical", "min_count": 1},
            {"name": "price", "kind": "numeric", "rule": "linear", "fill": 0.0},
            {"name": "seen", "kind": "bag", "separator": "^", "max_len": 5, "share_with": "item"},
        ],
    }
    assert found.recipe["model"]["embedding"]["widths"] == {"item": 4}
    said = "\n".join(found.differences)
    assert "it does not say which values were too rare, how lists are written" in said
    assert "The tables have 41 rows there" in said
    assert "sequences without a feature_encoder stay unpooled there" in said
    assert import_fuxictr(folder, "autoint") == found  # by data_root
    write_imported(found, folder / "out.toml", folder / "schema.toml")
    rows = {"user": list("ab"), "item": list("xy"), "price": [1.5, 2], "click": [0, 1], "seen": ["x^z", ""]}
    raw = pl.DataFrame(rows)
    raw.write_csv(folder / "raw.csv")
    splits = {split: [folder / "raw.csv"] for split in ("train", "valid", "test")}
    data = prepare([], DataSpec.load(folder / "schema.toml"), folder / "out", split_files=splits)
    assert data.table_sizes == {"user": 4, "item": 5}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no feature map of FuxiCTR"),
        ("[]", "is no feature map of FuxiCTR"),
        ('{"dataset_id": "encoded", "labels": [], "features": ["user"]}', "is no feature map of FuxiCTR"),
        ('{"dataset_id": "other", "labels": [], "features": []}', "is of the data set 'other', and the"),
    ],
)
def test_another_feature_map(folder, text, said):
    edit(folder, "model_config.yaml", "dataset_id: shop", "dataset_id: encoded")
    (folder / "feature_map.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        import_fuxictr(folder, "autoint", folder)


def test_a_feature_map_has_no_use_where_columns_are_listed(folder):
    with pytest.raises(InputError, match="the configuration lists the columns already; leave --data out"):
        import_fuxictr(folder, "autoint", folder)
