"""FuxiCTR's models: their names and settings here, and the defaults that differ."""

from __future__ import annotations

from typing import Any

from ..errors import InputError, unknown_name

# FuxiCTR's class -> registry name, and its options -> settings of the model ("a b": one sets two settings).
MODELS: dict[str, tuple[str, dict[str, str]]] = {
    "LR": ("lr", {}),
    "FM": ("fm", {}),
    "FFM": ("ffm", {}),
    "FwFM": ("fwfm", {"linear_type": "linear_type"}),
    "FmFM": ("fmfm", {"field_interaction_type": "interaction"}),
    "AFM": ("afm", {"attention_dim": "attention_dim"}),
    "NFM": ("nfm", {"hidden_units": "hidden"}),
    "DNN": ("dnn", {"hidden_units": "hidden"}),
    "WideDeep": ("wide_deep", {"hidden_units": "hidden"}),
    "DeepFM": ("deepfm", {"hidden_units": "hidden"}),
    "PNN": ("ipnn", {"hidden_units": "hidden"}),
    "DCN": ("dcn", {"num_cross_layers": "layers", "crossing_layers": "layers", "dnn_hidden_units": "hidden"}),
    "DCNv2": (
        "dcnv2",
        {
            "model_structure": "structure",
            "num_cross_layers": "layers",
            "low_rank": "rank",
            "parallel_dnn_hidden_units": "hidden",
            "stacked_dnn_hidden_units": "stacked_hidden",
        },
    ),
    "xDeepFM": (
        "xdeepfm",
        {"cin_hidden_units": "cin", "cin_layer_units": "cin", "dnn_hidden_units": "hidden"},
    ),
    "AutoInt": (
        "autoint.fuxi",
        {
            "attention_layers": "layers",
            "num_heads": "heads",
            "attention_dim": "attention_dim",
            "use_scale": "scale",
            "use_wide": "wide",
            "dnn_hidden_units": "hidden",
            "net_dropout": "dropout attention_dropout",
        },
    ),
    "FinalMLP": (
        "finalmlp",
        {
            "mlp1_hidden_units": "hidden",
            "mlp1_dropout": "dropout",
            "mlp1_batch_norm": "batch_norm",
            "mlp2_hidden_units": "second_hidden",
            "mlp2_dropout": "second_dropout",
            "use_fs": "gates",
            "mlp2_batch_norm": "second_batch_norm",
            "fs_hidden_units": "gate_hidden",
            "fs1_context": "context",
            "fs2_context": "second_context",
            "num_heads": "heads",
        },
    ),
    "FiBiNET": (
        "fibinet",
        {"hidden_units": "hidden", "reduction_ratio": "reduction", "bilinear_type": "bilinear"},
    ),
    "MaskNet": (
        "masknet",
        {
            "model_type": "structure",
            "dnn_hidden_units": "hidden",
            "parallel_num_blocks": "num_blocks",
            "parallel_block_dim": "block_width",
            "reduction_ratio": "reduction",
            "emb_layernorm": "embedding_norm",
            "net_layernorm": "layer_norm",
        },
    ),
    "DLRM": (
        "dlrm",
        {
            "top_mlp_units": "hidden",
            "top_mlp_dropout": "dropout",
            "bottom_mlp_units": "bottom_hidden",
            "bottom_mlp_dropout": "bottom_dropout",
            "interaction_op": "interaction",
        },
    ),
    "AFN": (
        "afn",
        {
            "logarithmic_neurons": "neurons",
            "afn_hidden_units": "hidden",
            "afn_dropout": "dropout",
            "dnn_hidden_units": "dnn_hidden",
            "dnn_dropout": "dnn_dropout",
        },
    ),
    "FinalNet": (
        "finalnet",
        {
            "block_type": "blocks",
            "use_feature_gating": "field_gate",
            "use_field_gate": "field_gate",
            "block1_hidden_units": "hidden",
            "block1_hidden_activations": "activation",
            "block1_dropout": "dropout",
            "block2_hidden_units": "second_hidden",
            "block2_hidden_activations": "second_activation",
            "block2_dropout": "second_dropout",
            "residual_type": "residual",
        },
    ),
}
_PERCEPTRON: dict[str, Any] = {"hidden_units": [64, 64, 64]}
# What FuxiCTR takes where a configuration is silent and we would take something else.
DEFAULTS: dict[str, dict[str, Any]] = {
    "FFM": {"embedding_dim": 2},
    "NFM": _PERCEPTRON,
    "DNN": _PERCEPTRON,
    "WideDeep": _PERCEPTRON,
    "DeepFM": _PERCEPTRON,
    "PNN": _PERCEPTRON,
    "DCN": {"dnn_hidden_units": []},
    "DCNv2": {"parallel_dnn_hidden_units": [], "stacked_dnn_hidden_units": []},
    "xDeepFM": {"dnn_hidden_units": [64, 64, 64]},
    "AutoInt": {
        "attention_layers": 2,
        "num_heads": 1,
        "attention_dim": 8,
        "dnn_hidden_units": [64, 64, 64],
    },
    "FinalMLP": {"mlp1_hidden_units": [64, 64, 64], "mlp2_hidden_units": [64, 64, 64]},
    "FiBiNET": {"hidden_units": []},
    "MaskNet": {"dnn_hidden_units": [64, 64, 64], "parallel_num_blocks": 1},
    "DLRM": {"top_mlp_units": [64, 64, 64]},
    "AFN": {
        "logarithmic_neurons": 5,
        "afn_hidden_units": [64, 64, 64],
        "dnn_hidden_units": [64, 64, 64],
        "batch_norm": True,
    },
    "FinalNet": {"block1_hidden_units": [64, 64, 64], "block2_hidden_units": [64, 64, 64]},
}
# Settings with other words: registry name -> (setting, FuxiCTR's option, FuxiCTR's words -> ours).
_ACTIVATION: dict[str, Any] = {"None": "none", "relu": "relu", "ReLU": "relu", "[]": "none"}
_WORDS: dict[str, tuple[tuple[str, str, dict[str, Any]], ...]] = {
    "fmfm": (("interaction", "field_interaction_type", {"matrixed": "matrix", "vectorized": "vector"}),),
    "fibinet": (
        (
            "bilinear",
            "bilinear_type",
            {"field_all": "all", "field_each": "each", "field_interaction": "interaction"},
        ),
    ),
    "masknet": (
        ("structure", "model_type", {"SerialMaskNet": "serial", "ParallelMaskNet": "parallel"}),
    ),
    "finalnet": (
        ("blocks", "block_type", {"1B": 1, "2B": 2}),
        ("activation", "block1_hidden_activations", _ACTIVATION),
        ("second_activation", "block2_hidden_activations", _ACTIVATION),
    ),
}


def finish_model(name: str, model: dict[str, Any], options: dict[str, Any]) -> None:
    """The settings that several options decide together."""
    if name == "dcnv2" and options.get("use_low_rank_mixture"):
        model["experts"] = options.get("num_experts", 4)
    if name == "dcnv2" and not options.get("use_low_rank_mixture"):
        model.pop("rank", None)
    if name.startswith("autoint") and options.get("layer_norm"):
        model["norm"] = "pre_relu"
    if name.startswith("autoint") and options.get("use_residual") is False:
        model["res"] = "none"
    if name == "afm" and options.get("attention_dropout"):
        rates = options["attention_dropout"]
        if not isinstance(rates, list) or len(rates) != 2:
            raise InputError(f"attention_dropout = {rates!r}: FuxiCTR's AFM takes a list of two rates")
        model["attention_dropout"], model["dropout"] = rates
    if name == "masknet":
        model["mask_start"] = 0.0
    if name == "fibinet":
        model["shared"] = False
    if name == "afn" and options.get("ensemble_dnn") is False:
        model["dnn_hidden"] = []
    if name == "dlrm" and model.get("bottom_hidden") == []:
        del model["bottom_hidden"]
    for key, option, known in _WORDS.get(name, ()):
        if key in model:
            if str(model[key]) not in known:
                raise unknown_name(option, str(model[key]), known)
            model[key] = known[str(model[key])]
