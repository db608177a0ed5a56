"""RecBole's click models: which of ours stands for each, and where the networks differ.

Read from the source of RecBole 1.2.1 (recbole/model, properties/model).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError


def _nothing(model: dict[str, Any], options: dict[str, Any]) -> None:
    """For networks whose settings are translated one by one."""


@dataclass(frozen=True)
class Net:
    """One network: our name, RecBole's settings -> ours ("a b": two), its defaults, what ours always has.

    `penalised` is what its reg_weight acts on; `finish` translates the settings in `also`, which decide
    together.
    """

    name: str
    settings: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    always: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    penalised: str = ""
    finish: Callable[[dict[str, Any], dict[str, Any]], None] = _nothing


_MLP = {"mlp_hidden_size": "hidden", "dropout_prob": "dropout"}
_DROPOUT = (
    "dropout stands before each hidden layer there, so on the embeddings too and not behind the last one; "
    "here after each"
)
_TWO_BIASES = "one output bias, where RecBole has a second one in the first-order term: the same functions"
_CROSS_DRAWN = "the weights of the cross layers start there from N(0, 1), here by Xavier"


def _deep(hidden: list[int], dropout: float) -> dict[str, Any]:
    return {"embedding_size": 10, "mlp_hidden_size": hidden, "dropout_prob": dropout}


def _dcnv2(model: dict[str, Any], options: dict[str, Any]) -> None:
    if options["mixed"]:
        model |= {"experts": options["expert_num"], "rank": options["low_rank"]}


def _autoint(model: dict[str, Any], options: dict[str, Any]) -> None:
    rates = options["dropout_probs"]
    if not isinstance(rates, list) or len(rates) != 3:
        raise InputError(f"dropout_probs = {rates!r}: RecBole's AutoInt takes a list of three rates")
    model |= {"attention_dropout": rates[0], "dropout": rates[1]}
    model["res"] = "always" if options.get("has_residual") else "none"


NETS: dict[str, Net] = {
    "LR": Net("lr", defaults={"embedding_size": 10}),
    "FM": Net("fm", defaults={"embedding_size": 10}),
    "FFM": Net(
        "ffm",
        defaults={"embedding_size": 10},
        notes=(
            "a field of several values has one vector for all other fields in RecBole (its list of tables is "
            "one and the same), here one for each",
        ),
    ),
    "FwFM": Net(
        "fwfm",
        defaults={"embedding_size": 10, "dropout_prob": 0.0},
        always={"linear_type": "LW"},
        notes=(
            "the weights of pairs are no parameters in RecBole: they stay as drawn from N(0, 1) and are not "
            "saved; here they are trained",
        ),
    ),
    "AFM": Net(
        "afm",
        {"attention_size": "attention_dim", "dropout_prob": "dropout"},
        {"embedding_size": 10, "attention_size": 25, "dropout_prob": 0.3, "reg_weight": 2.0},
        notes=(
            "the attention layer has a bias here; its scores and the output start there from N(0, 1), here "
            "by Xavier",
        ),
        penalised="the attention matrix",
    ),
    "NFM": Net(
        "nfm",
        {"mlp_hidden_size": "hidden", "dropout_prob": "dropout pooling_dropout"},
        _deep([64, 64, 64], 0.0),
        always={"batch_norm": True, "pooling_batch_norm": True},
        notes=(
            "hidden layers are sigmoids there, ReLUs here",
            "no dropout follows the last hidden layer there; here it does",
        ),
    ),
    "DeepFM": Net("deepfm", _MLP, _deep([128, 128, 128], 0.2), notes=(_DROPOUT, _TWO_BIASES)),
    "WideDeep": Net("wide_deep", _MLP, _deep([32, 16, 8], 0.1), notes=(_DROPOUT, _TWO_BIASES)),
    "FNN": Net(
        "dnn",
        _MLP,
        _deep([256, 256, 256], 0.2),
        notes=(_DROPOUT, "hidden layers are tanh there, ReLUs here"),
    ),
    "PNN": Net(
        "ipnn",
        _MLP,
        {**_deep([128, 256, 128], 0.0), "use_inner": True, "use_outer": False, "reg_weight": 0.0},
        notes=(_DROPOUT,),
        penalised="each weight matrix of the hidden layers",
    ),
    "DCN": Net(
        "dcn",
        {**_MLP, "cross_layer_num": "layers"},
        {**_deep([256, 256, 256], 0.2), "cross_layer_num": 6, "reg_weight": 2},
        always={"batch_norm": True},
        notes=(_DROPOUT, _CROSS_DRAWN),
        penalised="each cross vector",
    ),
    "DCNV2": Net(
        "dcnv2",
        {
            "mlp_hidden_size": "hidden stacked_hidden",
            "dropout_prob": "dropout",
            "cross_layer_num": "layers",
            "structure": "structure",
        },
        {
            **_deep([768, 768], 0.2),
            "embedding_size": 16,
            "cross_layer_num": 3,
            "structure": "stacked",
            "mixed": False,
            "expert_num": 4,
            "low_rank": 128,
            "reg_weight": 2,
        },
        always={"batch_norm": True},
        notes=(_DROPOUT, _CROSS_DRAWN, "gates of experts have a bias there, none here"),
        penalised="each cross matrix",
        also=("mixed", "expert_num", "low_rank"),
        finish=_dcnv2,
    ),
    "xDeepFM": Net(
        "xdeepfm",
        {**_MLP, "cin_layer_size": "cin"},
        {
            **_deep([128, 128, 128], 0.2),
            "cin_layer_size": [100, 100, 100],
            "direct": False,
            "reg_weight": 5e-4,
        },
        notes=(
            "dropout stands before each hidden layer there, so on the embeddings too; here after each",
            "no bias in the first-order term, where RecBole has one: the same functions",
            "the feature maps pass a ReLU there, none here",
            "the hidden layers end there in one more ReLU, so that they can only raise the logit; not here",
        ),
        penalised="each weight matrix of the hidden layers, of the first-order tables and of the CIN",
    ),
    "AutoInt": Net(
        "autoint",
        {
            "n_layers": "layers",
            "num_heads": "heads",
            "attention_size": "attention_dim",
            "mlp_hidden_size": "hidden",
        },
        {
            "embedding_size": 10,
            "attention_size": 16,
            "n_layers": 3,
            "num_heads": 2,
            "dropout_probs": [0.2, 0.2, 0.2],
            "mlp_hidden_size": [128, 128],
        },
        always={"wide": True, "scale": True, "proj_bias": True},
        notes=(
            _DROPOUT,
            "the third of dropout_probs acts on nothing there, and is left out",
            "embeddings pass a linear layer before the attention there, and each attention ends in one; not "
            "here",
            "one ReLU (and one residual, with has_residual) stands there after all attention layers; here "
            "after each",
            "projections to queries, keys and values start narrower there (one Xavier matrix for all three)",
            "no bias in the first-order term, where RecBole has one: the same functions",
        ),
        also=("dropout_probs", "has_residual"),
        finish=_autoint,
    ),
    "EulerNet": Net(
        "eulernet",
        {
            "order_list": "neurons",
            "drop_ex": "explicit_dropout",
            "drop_im": "implicit_dropout",
            "apply_norm": "layer_norm",
        },
        {
            "embedding_size": 16,
            "order_list": [30],
            "drop_ex": 0.3,
            "drop_im": 0.3,
            "apply_norm": False,
            "reg_weight": 1e-5,
        },
        notes=(
            "the implicit weights start there from N(0, 0.1^2), those of the output from N(0, 0.01^2), here "
            "by Xavier; orders start at random there where the number of vectors stays, here as the identity",
        ),
        penalised="each parameter but the embeddings",
    ),
}
