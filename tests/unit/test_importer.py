"""FuxiCTR's configurations: what becomes of them, and what is said to differ."""

from __future__ import annotations

from pathlib import Path

import pytest

from recsys_zoo.data.spec import DataSpec
from recsys_zoo.errors import InputError
from recsys_zoo.importer import MODELS, import_fuxictr, write_imported
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
        - {name: age, dtype: float, type: numeric, category_processor: quantile_bucket, num_buckets: 7}
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
    assert (seen.kind, seen.separator, seen.max_len, seen.share_with) == ("sequence", "^", 5, "item")
    said = "\n".join(lines)
    for piece in ("normalizer 'MinMaxScaler' is not here", "'vector' of type 'embedding' has no counterpart",
                  "column 'seen': pooled by the mean", "the same seed draws other random numbers",
                  "one padding row a table"):
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


@pytest.mark.parametrize(("experiment", "said"), [
    ("autoin", r"no experiment named 'autoin'; did you mean \['autoint'\]"),
    ("exotic", "no model to translate named 'FiGNN'"),
    ("watchful", "monitor = .* is not translated"),
])
def test_mistakes(folder, experiment, said):
    with pytest.raises(InputError, match=said):
        import_fuxictr(folder, experiment)


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(InputError, match=r"model_config\.yaml: no such file"):
        import_fuxictr(tmp_path, "x")
    for text, said in (("a: [1", "not valid YAML"), ("- 1\n- 2\n", "no table of named tables")):
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
