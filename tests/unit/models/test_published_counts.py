"""Parameter counts of the published Frappe_x1 runs (BARS logs) with their settings: the same networks."""

from __future__ import annotations

import pytest

from recsys_zoo import create
from tests import toys

MLP = {"hidden": (400, 400, 400), "batch_norm": True}
AUTOINT = {"attention_dim": 128, "heads": 4}
RUNS = {
    "LR": ("lr", {}, 5390),
    "FM": ("fm", {}, 59280),
    "DeepFM": ("deepfm", {**MLP, "dropout": 0.2}, 423280),
    "DCNv2": ("dcnv2", {**MLP, "dropout": 0.4, "layers": 4}, 458391),
    "CrossNetv2": ("dcnv2.crossnet", {"layers": 4}, 94391),
    "AutoInt": ("autoint.fuxi", {**AUTOINT, "layers": 6}, 306051),
    "AutoInt+": (
        "autoint.plus.fuxi",
        {
            **AUTOINT,
            **MLP,
            "layers": 5,
            "scale": True,
            "norm": "pre_relu",
            "dropout": 0.1,
            "attention_dropout": 0.1,
        },
        622180,
    ),
}


def count(name: str, **settings) -> int:
    return create(name, toys.frappe_shape(), embedding={"dim": 10}, **settings).num_parameters()


@pytest.mark.parametrize("run", RUNS)
def test_counts_equal_the_published_ones(run):
    name, settings, published = RUNS[run]
    assert count(name, **settings) == published


def test_the_log_of_dnn_counts_its_mlp_twice():
    ours, mlp = count("dnn", **MLP), 364_001
    assert mlp == 100 * 400 + 2 * 400 * 400 + 3 * 400 + 3 * 2 * 400 + 401
    assert ours == 53_890 + mlp
    assert ours + mlp == 781_892
