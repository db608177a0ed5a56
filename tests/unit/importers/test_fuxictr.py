"""FuxiCTR's models and training: what becomes of their settings, and what is said to differ."""

from __future__ import annotations

import pytest

from recsys_zoo.errors import InputError
from recsys_zoo.importers.fuxictr import MODELS, import_fuxictr
from recsys_zoo.importers.imported import write_imported
from recsys_zoo.runs import read_recipe
from recsys_zoo.zoo import resolve

from .fuxi import BASE, edit


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


@pytest.mark.parametrize(
    ("experiment", "expected"),
    [
        (
            "fibinet",
            {"hidden": [8, 4], "reduction": 0.5, "bilinear": "each", "dropout": 0.1, "shared": False},
        ),
        (
            "masknet",
            {
                "structure": "parallel",
                "hidden": [8],
                "num_blocks": 2,
                "block_width": 16,
                "embedding_norm": False,
                "layer_norm": True,
                "mask_start": 0.0,
                "dropout": 0.2,
            },
        ),
        (
            "dlrm",
            {
                "hidden": [16, 8],
                "interaction": "cat",
                "dropout": 0.3,
                "batch_norm": True,
                "bottom_hidden": [64, 64, 64],
            },
        ),
        (
            "afn",
            {"neurons": 7, "hidden": [8], "dropout": 0.1, "dnn_hidden": [], "batch_norm": False},
        ),
        # FuxiCTR's signature: with a perceptron beside the powers
        ("afn_silent", {"neurons": 5, "hidden": [64] * 3, "dnn_hidden": [64] * 3, "batch_norm": True}),
        (
            "finalnet",
            {
                "blocks": 1,
                "field_gate": True,
                "hidden": [8, 6],
                "activation": "relu",
                "second_activation": "none",
                "dropout": 0.1,
                "residual": "concat",
            },
        ),
        ("no_residual", {"res": "none", "heads": 1}),
    ],
)
def test_settings_of_other_names_and_words(folder, experiment, expected):
    found = import_fuxictr(folder, experiment)
    write_imported(found, folder / "out.toml")
    model = read_recipe(folder / "out.toml").resolved().model
    assert {name: model[name] for name in expected} == expected
    assert [line for line in found.differences if "is left out: the run" in line] == []


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
    assert (train["plateau_factor"], train["clip_norm"], train["optimizer"]) == (1.0, 5, "adam")


def test_the_rule_by_which_weights_move(folder):
    edit(folder, "model_config.yaml", "optimizer: adam", "optimizer: Adagrad")
    assert import_fuxictr(folder, "autoint").recipe["train"]["optimizer"] == "adagrad"
    edit(folder, "model_config.yaml", "optimizer: Adagrad", "optimizer: RMSprop")
    found = import_fuxictr(folder, "autoint")
    assert "optimizer" not in found.recipe["train"]
    assert any(line.startswith("optimizer = 'RMSprop' has no counterpart") for line in found.differences)


def test_a_value_that_our_settings_refuse_is_said_at_once(folder):
    edit(folder, "model_config.yaml", "net_dropout: 0.1", "net_dropout: [0.1, 0.2]")
    with pytest.raises(
        InputError, match=r"the FuxiCTR configuration, translated: model: dropout = \[0.1, 0.2\]"
    ):
        import_fuxictr(folder, "autoint")


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
