"""Whether a model is FuxiCTR's: the same start and the same batches must give the same scores and weights.

    python benchmarks/peers/parity.py --fuxictr CHECKOUT --peer-python PYTHON \
        --out benchmarks/results/peers/parity.md

FuxiCTR draws the initial weights and takes STEPS training steps (its own model, loss, L2 terms, clipping
and Adam) with the published settings of fuxictr.toml, on generated rows of Frappe's shape. Our model of the
recipe gets those weights, is trained on the same batches by our optimiser, and is compared: scores before
each step, and all weights at the end. Dropout is off, because its random numbers differ, and both sides
compute in double precision: in single precision rounding grows to the first digit within ten steps where
batch normalisation divides by the deviation of vectors that start at 1e-4. This takes seconds where means
over seeds take hours, and finds differences that they hide. --peer-python: see benchmarks/peers/fuxictr.py.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "speed"))
BATCH, ROWS = 512, 8192
EMBEDDING = "embedding_layer.embedding_layer.embedding_layers"
# Model of fuxictr.toml -> recipe, and where the entries of our modules (in their order) come from; several
# places are joined along the first dimension. "*" counts up. Tables are found by EMBEDDING behind the place.
MLP = {"mlp.layers": ["mlp.mlp"]}
DNN = {"mlp.layers": ["dnn.mlp"]}
OUT = {"out": ["fc"]}
TABLE = {"embedding.groups": [""]}
ATTENTION = {
    "layers.*.project": ["self_attention.*.W_q", "self_attention.*.W_k", "self_attention.*.W_v"],
    "layers.*.residual": ["self_attention.*.W_res"],
    "layers.*.norm": ["self_attention.*.layer_norm"],
}
PLACES: dict[str, tuple[str, dict[str, list[str]]]] = {
    "LR": ("lr", {"linear.embedding.groups": ["lr_layer."], "linear.bias": ["lr_layer.bias"]}),
    "FM": ("fm", {**TABLE, "linear.embedding.groups": ["fm.lr_layer."], "linear.bias": ["fm.lr_layer.bias"]}),
    "FwFM": (
        "fwfm",
        {
            **TABLE,
            "pair_weights": ["interaction_weight.weight"],
            "bias": ["interaction_weight.bias"],
            "linear": ["linear_weight_layer"],
        },
    ),
    "DNN": ("dnn", {**TABLE, **MLP}),
    "DeepFM": ("deepfm", {**TABLE, "linear.embedding.groups": ["fm.lr_layer."], **MLP}),
    "DCN": ("dcn", {**TABLE, "cross": ["crossnet.cross_net"], **DNN, **OUT}),
    "CrossNet": ("dcn_crossnet", {**TABLE, "cross": ["crossnet.cross_net"], **OUT}),
    "CrossNetv2": ("dcnv2_crossnet", {**TABLE, "cross.layers": ["crossnet.cross_layers"], **OUT}),
    "DCNv2": (
        "dcnv2",
        {**TABLE, "cross.layers": ["crossnet.cross_layers"], "parallel.layers": ["parallel_dnn.mlp"], **OUT},
    ),
    "AutoInt": ("autoint", {**TABLE, **ATTENTION, **OUT}),
    "AutoInt+": ("autoint_plus", {**TABLE, **ATTENTION, **DNN, **OUT}),
    "xDeepFM": (
        "xdeepfm",
        {
            **TABLE,
            "linear.embedding.groups": ["lr_layer."],
            "cin.layers": ["cin.cin_layer"],
            "out": ["cin.fc"],
            **DNN,
        },
    ),
    "IPNN": ("ipnn", {**TABLE, **DNN}),
    "FiBiNET": (
        "fibinet",
        {
            **TABLE,
            "linear.embedding.groups": ["lr_layer."],
            "excitation": ["senet_layer.excitation"],
            "bilinear.weight": ["bilinear_interaction1.bilinear_W"],
            **DNN,
        },
    ),
    "MaskNet": (
        "masknet",
        {**TABLE, "out.layers": ["mask_net.dnn.mlp"], "blocks": ["mask_net.mask_blocks"]},
    ),
    "FinalMLP": (
        "finalmlp",
        {
            **TABLE,
            "gate.embedding.groups": ["fs_module.fs1_ctx_emb."],
            "gate.mlp": ["fs_module.fs1_gate.mlp"],
            "second_gate.embedding.groups": ["fs_module.fs2_ctx_emb."],
            "second_gate.mlp": ["fs_module.fs2_gate.mlp"],
            "mlp.layers": ["mlp1.mlp"],
            "second_mlp.layers": ["mlp2.mlp"],
            "fusion.weight": ["fusion_module.w_xy"],
            "fusion.first": ["fusion_module.w_x"],
            "fusion.second": ["fusion_module.w_y"],
        },
    ),
    "FinalNet": (
        "finalnet",
        {
            **TABLE,
            "gate": ["feature_gating"],
            "block": ["block1.layer.0", "block1.norm.0", "block1.layer.1", "block1.norm.1", "fc1"],
            "second_block": ["block2.layer.0", "block2.norm.0", "fc2"],
        },
    ),
}
IN_ORDER = {"block", "second_block"}  # places follow each other instead of being joined
# Parameters of FuxiCTR 2 that neither the published run nor ours has are kept from moving.
HELD = {"DeepFM": ["fm.lr_layer.bias"]}
TIED = {"FiBiNET": ("bilinear_interaction2.bilinear_W", "bilinear_interaction1.bilinear_W")}
REMARKS = {
    "FiBiNET": "FuxiCTR 2 has two sets of bilinear matrices, the published run and ours have one: they start "
    "equal, so only the scores before the first step can agree",
    "DeepFM": "FuxiCTR's second bias is held at zero",
    "FinalNet": "our blocks are taught by a mean that is rounded to single precision",
}


def peer(model: str, steps: int, out: Path) -> None:
    """Train FuxiCTR's model in its own environment; weights before and after, batches and scores to `out`."""
    from worker_fuxictr import FuxiCTR

    torch.set_num_threads(1)
    board = tomllib.loads((HERE / "fuxictr.toml").read_text(encoding="utf-8"))["frappe_x1"]
    setting, names = board["models"][model], board["categorical"]
    options = {k: 0.0 if k.endswith("dropout") else v for k, v in setting["options"].items()}
    runner = FuxiCTR(
        "frappe", setting["model_class"], BATCH, {"options": options, "names": names, "rows": ROWS}
    )
    network = runner.model.double()
    with torch.no_grad():
        if model in TIED:
            target, source = (network.get_parameter(name) for name in TIED[model])
            target.copy_(source)
    for name in HELD.get(model, []):
        network.get_parameter(name).requires_grad_(False)
    found = {f"before/{name}": t.detach().clone() for name, t in network.state_dict().items()}
    for step in range(steps):
        batch = next(runner.batches)
        found[f"ids{step}"] = torch.stack([batch[name] for name in names], 1)
        labels = network.get_labels(batch).double()
        found[f"labels{step}"] = labels.flatten()
        network.optimizer.zero_grad()
        answer = network.forward(batch)
        found[f"scores{step}"] = answer["y_pred"].detach().flatten()
        network.compute_loss(answer, labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), network._max_gradient_norm)
        network.optimizer.step()
    found |= {f"after/{name}": t.detach() for name, t in network.state_dict().items()}
    np.savez(out, **{name: t.numpy() for name, t in found.items()})


def translate(model: str, ours: dict[str, Any], theirs: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """FuxiCTR's weights under our names and in our shapes; SystemExit where one is left over or missing."""
    result: dict[str, torch.Tensor] = {}
    left = {n for n in theirs if not n.endswith(("triu_mask", "triu_index"))}
    left -= {TIED[model][0]} if model in TIED else set()
    left -= set(HELD.get(model, []))

    def entries(place: str) -> list[str]:
        return [n for n in theirs if n == place or n.startswith(place + ".")]

    for ours_at, places in PLACES[model][1].items():
        if ours_at.endswith(".groups"):
            (name,) = (n for n in ours if n.startswith(ours_at))
            place = places[0]
            prefix = next(
                p for p in (f"{place}{EMBEDDING}.", f"{place}{EMBEDDING.partition('.')[2]}.")
                if any(n.startswith(p) for n in theirs)
            )
            tables = [n for n in theirs if n.startswith(prefix)]
            blocks = [np.zeros_like(theirs[tables[0]][:1]), *(theirs[n][1:] for n in tables)]
            result[name] = torch.from_numpy(np.concatenate(blocks))
            left -= set(tables)
            continue
        for number in range(64 if "*" in ours_at else 1):
            at, sources = ours_at.replace("*", str(number)), [p.replace("*", str(number)) for p in places]
            names = [n for n in ours if n == at or n.startswith(at + ".")]
            if ours_at in IN_ORDER:
                columns = [[n for source in sources for n in entries(source)]]
            else:
                columns = [entries(source) for source in sources]
            if not names and not any(columns):
                break
            if any(len(column) != len(names) for column in columns):
                raise SystemExit(f"error: {model}: {at} has {len(names)} entries, {sources} {columns}")
            for name, *parts in zip(names, *columns, strict=True):
                joined = np.concatenate([theirs[p] for p in parts]) if len(parts) > 1 else theirs[parts[0]]
                result[name] = torch.from_numpy(joined.copy()).reshape(ours[name].shape)
                left -= set(parts)
    if left or result.keys() != ours.keys():
        raise SystemExit(f"error: {model}: no place for {sorted(left)}; ours without a source: "
                         f"{sorted(ours.keys() - result.keys())}")
    return result


def compare(model: str, steps: int, recorded: Any) -> dict[str, Any]:
    """Train ours from the recorded start on the recorded batches."""
    from shapes import SIZES

    from recsys_zoo import create
    from recsys_zoo.batch import Inputs
    from recsys_zoo.models.base import scalars
    from recsys_zoo.schema import Column, Schema
    from recsys_zoo.train.config import TrainConfig
    from recsys_zoo.train.optim import Optimizer

    recipe = PLACES[model][0]
    path = HERE.parent / "recipes" / "frappe_x1" / f"{recipe}.toml"
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    names = tomllib.loads((HERE / "fuxictr.toml").read_text(encoding="utf-8"))["frappe_x1"]["categorical"]
    columns = [
        Column(name=n, kind="categorical", vocab_size=size + 1)
        for n, size in zip(names, SIZES["frappe"], strict=True)
    ]
    schema = Schema(dataset="parity", labels=("click",), columns=tuple(columns))
    options = {k: 0.0 if k.endswith("dropout") else v for k, v in content["model"].items()}
    network = create(options.pop("name"), schema, seed=1, **options).train().double()
    shapes = dict(network.state_dict())
    before, after = (
        translate(
            model,
            shapes,
            {n.removeprefix(f"{when}/"): recorded[n] for n in recorded.files if n.startswith(f"{when}/")},
        )
        for when in ("before", "after")
    )
    network.load_state_dict(before)
    kept = {k: v for k, v in content["train"].items() if k in TrainConfig.model_fields and k != "patience"}
    cfg = TrainConfig(device="cpu", **kept)
    optimizer = Optimizer(network, cfg, cfg.lr)
    gaps = []
    for number in range(steps):
        ids = torch.from_numpy(recorded[f"ids{number}"]).int()
        labels = torch.from_numpy(recorded[f"labels{number}"])
        optimizer.begin()
        logits, terms = network.train_forward(Inputs(ids, torch.zeros(len(ids), 0), {}))
        gap = logits.detach().sigmoid() - torch.from_numpy(recorded[f"scores{number}"])
        gaps.append(float(gap.abs().max()))
        loss_of = functools.partial(F.binary_cross_entropy_with_logits, target=labels)
        loss = loss_of(logits)
        (loss + sum(scalars(terms, loss, loss_of).values())).backward()
        optimizer.step()
    weights = network.state_dict()
    learnt = [n for n, _ in network.named_parameters()]
    gap = {n: (weights[n] - after[n]).abs() for n in learnt}
    return {
        "parameters": sum(weights[n].numel() for n in learnt),
        "first": gaps[0],
        "last": gaps[-1],
        "weights": max(float(g.max()) for g in gap.values()),
        "moved": max(float((before[n] - after[n]).abs().max()) for n in learnt),
    }


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--fuxictr", type=Path, help="git checkout of FuxiCTR")
    add("--peer-python", help="interpreter of FuxiCTR's environment")
    add("--models", default=",".join(PLACES))
    add("--steps", type=int, default=10)
    add("--out", type=Path, help="Markdown")
    add("--peer", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        peer(args.peer, args.steps, args.out)
        return
    if not (args.fuxictr and args.peer_python and args.out):
        parser.error("--fuxictr, --peer-python and --out are needed")
    from machine import commit

    torch.set_num_threads(1)
    found = {}
    for model in args.models.split(","):
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "recorded.npz")
            command = [args.peer_python, __file__, "--peer", model, "--steps", str(args.steps), "--out", out]
            environment = {**os.environ, "FUXICTR": str(args.fuxictr.resolve())}
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            with np.load(out) as recorded:
                found[model] = compare(model, args.steps, recorded)
        print(json.dumps({"model": model, **found[model]}), flush=True)
    lines = [
        "# Step by step beside FuxiCTR",
        "",
        f"Generated by `benchmarks/peers/parity.py`: {args.steps} steps from FuxiCTR's initial weights, on",
        f"its batches of {BATCH}, with the settings of `fuxictr.toml` there and of our recipe here, without",
        "dropout, in double precision: largest differences of scores and weights beside the largest movement",
        "of a weight.",
        f"Commit {commit(HERE)}, FuxiCTR {commit(args.fuxictr)}.",
        "",
        f"| model | parameters | score, first step | score, step {args.steps} | weights after "
        "| largest movement | remark |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, f in found.items():
        lines.append(
            f"| {model} | {f['parameters']:,} | {f['first']:.1e} | {f['last']:.1e} | {f['weights']:.1e} "
            f"| {f['moved']:.1e} | {REMARKS.get(model, '')} |"
        )
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
