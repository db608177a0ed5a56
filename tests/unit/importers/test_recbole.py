"""RecBole's configurations: what becomes of their settings, and what is said to differ."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo.errors import InputError
from recsys_zoo.importers.imported import write_imported
from recsys_zoo.importers.recbole import import_recbole
from recsys_zoo.importers.recnets import NETS
from recsys_zoo.runs import read_recipe
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.optim import Optimizer
from recsys_zoo.zoo import create, resolve

from ..train.toys import SCHEMA, inputs
from .atoms import LABEL, LOAD, bring


def test_defaults_are_recboles(shop):
    """overall.yaml, DeepFM.yaml and context-aware.yaml of RecBole 1.2.1."""
    write_imported(bring(shop, LOAD + LABEL, "DeepFM"), shop / "out.toml")
    cfg = read_recipe(shop / "out.toml").resolved()
    model, train = cfg.model, cfg.train
    assert (model["name"], model["hidden"], model["dropout"]) == ("deepfm", [128, 128, 128], 0.2)
    assert (model["embedding"]["dim"], model["batch_norm"]) == (10, False)
    assert (train.epochs, train.batch_size, train.lr, train.seed) == (300, 2048, 1e-3, 2020)
    assert (train.patience, train.min_delta, train.plateau_factor) == (11, 0.0, 1.0)
    assert (train.monitor, train.table_l2, train.net_l2) == ("auc", 0.0, 0.0)


def test_what_the_files_say_wins_and_the_later_file_most(shop):
    text = "learning_rate: 1e-2\nweight_decay: 1e-4\nstopping_step: 3\neval_step: 2\nembedding_size: 4\n"
    first, second = shop / "a.yaml", shop / "b.yaml"
    first.write_text(text + "epochs: 7\nmlp_hidden_size: [8]\nclip_grad_norm: {max_norm: 5}\n")
    second.write_text("epochs: 9\nvalid_metric: LogLoss\n")
    found = import_recbole([first, second], "DCN", "shop", shop / "shop")
    train, model = found.recipe["train"], found.recipe["model"]
    assert (train["lr"], train["table_l2"], train["net_l2"]) == (1e-2, 1e-4, 1e-4)
    assert (train["epochs"], train["patience"], train["monitor"]) == (9, 8, "logloss")
    assert train["clip_norm"] == 5.0
    assert (model["hidden"], model["layers"], model["embedding"]["dim"]) == ([8], 6, 4)
    assert model["batch_norm"] is True


@pytest.mark.parametrize("name", NETS)
def test_every_network_is_translated_without_a_setting_left_over(shop, name):
    """RecBole's defaults of every network make a recipe that our model accepts; none of them is unknown."""
    found = bring(shop, LOAD + LABEL, name)
    known = resolve(NETS[name].name)[0].Config.model_fields
    assert set(found.recipe["model"]) <= {*known, "name"}
    said = {line.split(" = ")[0] for line in found.differences if "has no counterpart" in line}
    assert said == ({"direct"} if name == "xDeepFM" else set())
    assert any("reg_weight" in line for line in found.differences) == bool(
        NETS[name].defaults.get("reg_weight")
    )


def test_settings_that_act_together(shop):
    model = bring(shop, "mixed: True\nexpert_num: 3\nlow_rank: 5\nstructure: parallel\n", "DCNV2").recipe[
        "model"
    ]
    assert (model["experts"], model["rank"], model["structure"]) == (3, 5, "parallel")
    assert "experts" not in bring(shop, "", "DCNV2").recipe["model"]
    model = bring(shop, "dropout_probs: [0.1, 0.3, 0.5]\nhas_residual: True\n", "AutoInt").recipe["model"]
    assert (model["attention_dropout"], model["dropout"], model["res"]) == (0.1, 0.3, "always")
    assert bring(shop, "", "AutoInt").recipe["model"]["res"] == "none"
    assert bring(shop, "dropout_prob: 0.3\n", "NFM").recipe["model"]["pooling_dropout"] == 0.3


def test_weight_decay_is_the_same_algorithm():
    """table_l2 = net_l2 without clipping, against torch's Adam with weight_decay, as RecBole has it."""
    decay, clip = 0.3, 1e30
    ours, theirs = (create("nfm", SCHEMA, seed=3, hidden=[5], pooling_batch_norm=True) for _ in range(2))
    step = Optimizer(ours, TrainConfig(table_l2=decay, net_l2=decay, clip_norm=clip), lr=0.01)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01, weight_decay=decay)
    for k in range(5):
        x, labels = inputs(20, k)
        for model in (ours, theirs):
            loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x), labels)
            step.begin() if model is ours else adam.zero_grad()
            loss.backward()
            step.step() if model is ours else adam.step()
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7, msg=name)  # the fused Adam rounds otherwise


def test_what_is_not_done_is_said_by_name(shop):
    text = (
        "val_interval: {price: '[1,5]'}\nuser_inter_num_interval: '[5,inf)'\nrm_dup_inter: first\n"
        "train_neg_sample_args: {distribution: uniform}\nlearner: rmsprop\nsurprise: 3\nshuffle: False\n"
        "item_inter_num_interval: '[0,inf)'\ngpu_id: 0\nMAX_ITEM_LIST_LENGTH: 20\n"
    )
    said = "\n".join(bring(shop, LOAD + LABEL + text).differences)
    for key in (
        "val_interval",
        "user_inter_num_interval",
        "rm_dup_inter",
        "train_neg_sample_args",
        "learner",
        "surprise",
        "shuffle",
    ):
        assert f"{key} = " in said
    for key in ("item_inter_num_interval", "gpu_id", "MAX_ITEM_LIST_LENGTH"):
        assert key not in said


def test_the_rule_by_which_weights_move(shop):
    assert bring(shop, "learner: SGD\n").recipe["train"]["optimizer"] == "sgd"
    assert bring(shop).recipe["train"]["optimizer"] == "adam"


def test_gauc_needs_the_user(shop):
    found = bring(shop, LOAD + LABEL + "valid_metric: GAUC\n")
    assert (found.recipe["train"]["monitor"], found.schema["group"]) == ("gauc", "user_id:token")


def test_without_files_or_a_label_there_is_no_schema(shop):
    found = bring(shop, LOAD)
    with pytest.raises(InputError, match=r"--schema .*no column holds the label: 'label' is not loaded"):
        write_imported(found, shop / "out.toml", shop / "schema.toml")
    assert not (shop / "out.toml").exists()
    (shop / "shop" / "shop.inter").unlink()
    found = bring(shop)
    assert found.schema is None
    assert "shop.inter: no such file" in found.differences[-1]


@pytest.mark.parametrize(
    ("text", "model", "said"),
    [
        ("", "DeepFMM", r"no model to translate named 'DeepFMM'; did you mean \['DeepFM'"),
        ("valid_metric: MRR@10\n", "FM", "valid_metric = 'MRR@10' is not translated; choose one of AUC"),
        ("load_col: [user_id]\n", "FM", r"load_col = \['user_id'\]: is no table"),
        (LOAD + "threshold: {place: 1}\n", "FM", "threshold on 'place': no float column"),
        (LOAD + "threshold: {rating: 1, price: 2}\n", "FM", "RecBole takes one column"),
        (LOAD + LABEL + "field_separator: '::'\n", "FM", "field_separator = '::'"),
        (
            LOAD + LABEL + "unload_col: {inter: [tags]}\n",
            "FM",
            "load_col and unload_col both name columns of .inter",
        ),
        (
            LABEL + "load_col: {inter: [user_id, item_id, rating]}\neval_args: {order: TO}\n",
            "FM",
            r"the order TO needs the column 'timestamp' \(TIME_FIELD\)",
        ),
        (
            LOAD + LABEL + "eval_args: {split: {XS: [1, 1]}}\n",
            "FM",
            "write RS or TS with three shares, or LS",
        ),
        (LOAD + LABEL + "eval_args: {split: {LS: both}}\n", "FM", "LS = 'both': write one of"),
        (LOAD + LABEL + "stopping_step: soon\n", "FM", "stopping_step = 'soon': is no whole number"),
        (LOAD + LABEL + "embedding_size: 0\n", "FM", "translated: model: embedding.dim = 0"),
        (LOAD + LABEL + "dropout_probs: 0.2\n", "AutoInt", "takes a list of three rates"),
        (
            LOAD + LABEL + "numerical_features: [price]\ndiscretization: {price: {method: ED}}\n",
            "FM",
            "RecBole knows ED with bucket, and LD",
        ),
        (
            LOAD + LABEL + "numerical_features: [price]\ndiscretization: {price: {method: ED, bucket: x}}\n",
            "FM",
            "discretization of 'price' = {'method': 'ED', 'bucket': 'x'}: RecBole knows",
        ),
        (
            LOAD + LABEL + "numerical_features: [price]\ndiscretization: {price: 5}\n",
            "FM",
            "discretization of 'price' = {'method': 5}",
        ),
        (LOAD + "threshold: {rating: high}\n", "FM", "threshold on 'rating' = 'high': is no number"),
        (LOAD + LABEL + "seq_len: {tags: long}\n", "FM", "seq_len of 'tags' = 'long': is no number"),
        (LOAD + LABEL + "clip_grad_norm: {max_norm: x}\n", "FM", "max_norm = 'x': is no number"),
        (LOAD + LABEL + "clip_grad_norm: 5\n", "FM", "clip_grad_norm = 5: is no table"),
        (LOAD + LABEL + "eval_args: {split: {RS: [0, 0, 0]}}\n", "FM", "write RS or TS with three shares"),
        (LOAD + LABEL + "benchmark_filename: train\n", "FM", "benchmark_filename = 'train': is no list"),
        (LOAD + LABEL + "numerical_features: price2\n", "FM", "numerical_features = 'price2': is no list"),
        (LOAD + LABEL + "normalize_field: 1\n", "FM", "normalize_field = 1: is no list"),
        ("load_col: {inter: user_id}\n", "FM", "load_col: inter = 'user_id': is no list of columns"),
        (LOAD + LABEL + "unused_col: {inter: tags}\n", "FM", "unused_col: inter = 'tags': is no list"),
    ],
)
def test_mistakes(shop, text, model, said):
    with pytest.raises(InputError, match=said):
        bring(shop, text, model)


def test_a_folder_is_no_configuration(shop):
    with pytest.raises(InputError, match="shop: cannot be read: Is a directory; name a file"):
        import_recbole([shop / "shop"])


def test_one_file_cannot_be_recipe_and_schema(shop):
    with pytest.raises(InputError, match="to be both the recipe and the schema file; choose two names"):
        write_imported(bring(shop), shop / "both.toml", shop / "shop" / ".." / "both.toml")
    assert not (shop / "both.toml").exists()


def test_model_and_data_set_must_be_named(shop):
    (shop / "empty.yaml").write_text("epochs: 3\n", encoding="utf-8")
    with pytest.raises(InputError, match="names no model; give --model NAME"):
        import_recbole([shop / "empty.yaml"])
    with pytest.raises(InputError, match="names no dataset; give --dataset NAME"):
        import_recbole([shop / "empty.yaml"], "FM")
