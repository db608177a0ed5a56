"""FuxiCTR's configurations: what becomes of them, and what is said to differ."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.errors import InputError
from recsys_zoo.importers.fuxictr import MODELS, import_fuxictr
from recsys_zoo.importers.imported import write_imported
from recsys_zoo.runs import read_recipe
from recsys_zoo.zoo import resolve

BASE = """
Base: {model_root: ./out, num_workers: 3, verbose: 1, early_stop_patience: 2, save_best_only: True,
       eval_steps: null, debug_mode: False, group_id: null, use_features: null, feature_specs: null,
       feature_config: null}
"""
COMMON = """
    dataset_id: shop
    loss: binary_crossentropy
    metrics: [logloss, AUC]
    task: binary_classification
    optimizer: adam
    batch_size: 4096
    epochs: 100
    shuffle: True
    seed: 2019
    embedding_dim: 10
    learning_rate: 1e-3
"""
EXPERIMENTS = {
    "autoint": """
    model: AutoInt
    monitor: {'AUC': 1, 'logloss': -1}
    embedding_regularizer: 1e-5
    net_regularizer: 0
    attention_layers: 5
    attention_dim: 128
    num_heads: 4
    use_residual: True
    use_scale: True
    layer_norm: True
    use_wide: False
    dnn_hidden_units: [400, 400]
    dnn_activations: relu
    batch_norm: True
    net_dropout: 0.1
""",
    "lr": "\n    model: LR\n    monitor: AUC\n    regularizer: 1.e-6\n",
    "dcnv2": """
    model: DCNv2
    monitor: AUC
    model_structure: parallel
    use_low_rank_mixture: True
    low_rank: 16
    num_experts: 3
    num_cross_layers: 4
    parallel_dnn_hidden_units: [64]
    stacked_dnn_hidden_units: [32]
    dnn_activations: ReLU
    net_dropout: 0
""",
    "odd": """
    model: DeepFM
    monitor: AUC
    hidden_units: [8]
    hidden_activations: tanh
    embedding_regularizer: l1(0.1)
    surprise: 3
""",
    "exotic": "\n    model: FiGNN\n    monitor: AUC\n",
    "watchful": "\n    model: FM\n    monitor: {'AUC': 2, 'NDCG': 1}\n",
}
DATA = """
shop:
    data_format: csv
    min_categr_count: 2
    label_col: {name: click, dtype: float}
    feature_cols:
        - {name: [user, item], active: True, dtype: str, type: categorical, source: user}
        - {name: note, active: False, dtype: str, type: categorical}
        - {name: price, dtype: float, type: numeric, normalizer: StandardScaler}
        - {name: weight, dtype: float, type: numeric, normalizer: MinMaxScaler}
        - {name: age, dtype: float, type: categorical, category_processor: quantile_bucket, num_buckets: 7}
        - {name: seen, dtype: str, type: sequence, splitter: "^", max_len: 5, share_embedding: item}
        - {name: vector, dtype: str, type: embedding}
        - {name: session, dtype: str, type: meta}
encoded: {data_format: npz, train_data: train.npz}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    written = "".join(f"\n{name}:{COMMON}{text}" for name, text in EXPERIMENTS.items())
    (tmp_path / "model_config.yaml").write_text(BASE + written, encoding="utf-8")
    (tmp_path / "dataset_config.yaml").write_text(DATA, encoding="utf-8")
    return tmp_path


def test_autoint_becomes_a_recipe(folder):
    found = import_fuxictr(folder, "autoint")
    write_imported(found, folder / "out.toml")
    cfg = read_recipe(folder / "out.toml").resolved()
    model, train = cfg.model, cfg.train
    assert model["name"] == "autoint.fuxi"
    assert (model["layers"], model["attention_dim"], model["heads"]) == (5, 128, 4)
    assert (model["scale"], model["norm"]) == (True, "pre_relu")
    assert (model["res"], model["wide"]) == ("if_needed", False)
    assert (model["hidden"], model["batch_norm"]) == ([400, 400], True)
    assert model["dropout"] == model["attention_dropout"] == 0.1
    assert model["embedding"]["dim"] == 10
    assert (train.lr, train.table_l2, train.net_l2, train.monitor) == (1e-3, 1e-5, 0.0, "auc-logloss")
    assert (train.batch_size, train.patience, train.seed) == (4096, 2, 2019)
    assert [line for line in found.differences if "is left out: the run" in line] == []


def test_one_regulariser_of_shallow_models_is_on_all_parameters(folder):
    train = import_fuxictr(folder, "lr").recipe["train"]
    assert train["table_l2"] == train["net_l2"] == 1e-6


def test_low_rank_mixture(folder):
    write_imported(import_fuxictr(folder, "dcnv2"), folder / "out.toml")
    model = read_recipe(folder / "out.toml").resolved().model
    assert (model["structure"], model["layers"], model["experts"], model["rank"]) == ("parallel", 4, 3, 16)
    assert (model["hidden"], model["stacked_hidden"]) == ([64], [32])


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


def test_what_cannot_be_translated_is_said(folder):
    found = import_fuxictr(folder, "odd")
    said = "\n".join(found.differences)
    assert "hidden_activations = 'tanh' has no counterpart and is left out" in said
    assert "embedding_regularizer = 'l1(0.1)': only squared norms" in said
    assert "surprise = 3 has no counterpart" in said
    assert "table_l2" not in found.recipe["train"]


@pytest.mark.parametrize(
    ("experiment", "said"),
    [
        ("autoin", r"no experiment named 'autoin'; did you mean \['autoint'\]"),
        ("exotic", "no model to translate named 'FiGNN'"),
        ("watchful", "monitor = .* is not translated"),
    ],
)
def test_mistakes(folder, experiment, said):
    with pytest.raises(InputError, match=said):
        import_fuxictr(folder, experiment)


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(InputError, match=r"model_config\.yaml: no such file"):
        import_fuxictr(tmp_path, "x")
    for text, said in (
        ("a: [1", "not valid YAML"),
        ("- 1\n- 2\n", "no table of settings"),
        ("a: 1\n", "no table of named tables"),
    ):
        (tmp_path / "model_config.yaml").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=said):
            import_fuxictr(tmp_path, "x")


def test_nothing_is_overwritten_and_no_schema_is_invented(folder):
    path = folder / "model_config.yaml"
    text = path.read_text(encoding="utf-8").replace("dataset_id: shop", "dataset_id: encoded")
    path.write_text(text, encoding="utf-8")
    found = import_fuxictr(folder, "autoint")
    assert found.schema is None
    with pytest.raises(InputError, match="is not described by columns there"):
        write_imported(found, folder / "out.toml", folder / "schema.toml")
    assert not (folder / "out.toml").exists()
    write_imported(found, folder / "out.toml")
    with pytest.raises(InputError, match="exists already"):
        write_imported(found, folder / "out.toml")


@pytest.mark.parametrize("model", MODELS)
def test_every_translated_setting_is_one_of_the_model(model):
    name, renamed = MODELS[model]
    known = resolve(name)[0].Config.model_fields
    assert {target for targets in renamed.values() for target in targets.split()} <= set(known)


def edit(folder: Path, name: str, old: str, new: str) -> None:
    path = folder / name
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_what_a_configuration_is_silent_on_is_fuxictrs_default(folder):
    """The signature of FuxiCTR's AutoInt, which differs from ours in each of these."""
    edit(folder, "model_config.yaml", "attention_layers: 5", "")
    for line in ("attention_dim: 128", "num_heads: 4", "dnn_hidden_units: [400, 400]", "embedding_dim: 10"):
        edit(folder, "model_config.yaml", line, "")
    model = import_fuxictr(folder, "autoint").recipe["model"]
    assert (model["layers"], model["heads"], model["attention_dim"]) == (2, 1, 8)
    assert (model["hidden"], model["embedding"]["dim"]) == ([64, 64, 64], 10)


@pytest.mark.parametrize(
    ("line", "l2"),
    [
        ("l2(1e-4)", 1e-4),
        ("1.e-4", 1e-4),
        ("0", None),
        ("3", None),
        ("null", None),
        ("l1_l2(1e-4,1e-5)", None),
    ],
)
def test_regularisers_as_fuxictr_reads_them(folder, line, l2):
    """Floats and l2(x) are squared norms; whole numbers are none at all."""
    edit(folder, "model_config.yaml", "embedding_regularizer: 1e-5", f"embedding_regularizer: {line}")
    found = import_fuxictr(folder, "autoint")
    assert found.recipe["train"].get("table_l2") == l2
    assert any("only squared norms" in said for said in found.differences) == line.startswith("l1_l2")


@pytest.mark.parametrize(
    ("written", "ours"),
    [
        ("logloss\n    monitor_mode: min", "logloss"),
        ("{'logloss': -1}", "logloss"),
        ("gAUC", "gauc"),
        ("{'gAUC': 1, 'AUC': 1}", "auc+gauc"),
        ("logloss", None),
        ("AUC\n    monitor_mode: min", None),
        ("{'AUC': 1, 'logloss': 1}", None),
    ],
)
def test_the_direction_and_the_weights_of_the_monitor_count(folder, written, ours):
    edit(folder, "model_config.yaml", "monitor: {'AUC': 1, 'logloss': -1}", f"monitor: {written}")
    if ours is None:
        with pytest.raises(InputError, match="is not translated"):
            import_fuxictr(folder, "autoint")
    else:
        assert import_fuxictr(folder, "autoint").recipe["train"]["monitor"] == ours


def test_options_of_training(folder):
    edit(
        folder,
        "model_config.yaml",
        "use_wide: False",
        "reduce_lr_on_plateau: False\n    max_gradient_norm: 5",
    )
    train = import_fuxictr(folder, "autoint").recipe["train"]
    assert (train["plateau_factor"], train["clip_norm"]) == (1.0, 5)


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


def test_a_value_that_our_settings_refuse_is_said_at_once(folder):
    edit(folder, "model_config.yaml", "net_dropout: 0.1", "net_dropout: [0.1, 0.2]")
    with pytest.raises(
        InputError, match=r"the FuxiCTR configuration, translated: model: dropout = \[0.1, 0.2\]"
    ):
        import_fuxictr(folder, "autoint")


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model: AFM\n    monitor: AUC\n    attention_dropout: 0.1", "takes a list of two rates"),
        ("model: FmFM\n    monitor: AUC\n    field_interaction_type: x", "no field_interaction_type named"),
        ("model: FM\n    monitor: AUC\n    embedding_regularizer: l2(1e)", "= '1e': is no number"),
        ("model: FM\n    monitor: [AUC]", "monitor = ['AUC'] with"),
    ],
)
def test_options_of_another_form(folder, text, said):
    edit(folder, "model_config.yaml", "model: FiGNN\n    monitor: AUC", text)
    with pytest.raises(InputError) as error:
        import_fuxictr(folder, "exotic")
    assert said in str(error.value)


def test_several_encoders_of_a_sequence_are_said(folder):
    text = "feature_encoder: [layers.A(), layers.B()], max_len: 5"
    edit(folder, "dataset_config.yaml", "max_len: 5", text)
    said = import_fuxictr(folder, "autoint").differences
    wanted = "sequences with feature_encoder \"['layers.A()', 'layers.B()']\" are pooled by the mean here"
    assert wanted in said


def test_a_base_without_settings(folder):
    edit(folder, "model_config.yaml", BASE.strip(), "Base:")
    assert import_fuxictr(folder, "autoint").recipe["train"]["batch_size"] == 4096


def test_a_configuration_in_several_files(folder):
    """FuxiCTR looks into model_config/ and dataset_config/ where there is no single file."""
    whole = import_fuxictr(folder, "autoint")
    for name in ("model_config", "dataset_config"):
        (folder / name).mkdir()
        (folder / f"{name}.yaml").rename(folder / name / "b.yaml")
    text = (folder / "model_config" / "b.yaml").read_text(encoding="utf-8")
    base, _, rest = text.partition("\nautoint:")
    (folder / "model_config" / "a.yaml").write_text(base, encoding="utf-8")
    (folder / "model_config" / "b.yaml").write_text("autoint:" + rest, encoding="utf-8")
    assert import_fuxictr(folder, "autoint") == whole


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
