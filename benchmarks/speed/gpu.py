"""Training speed on a GPU with data of Criteo's shape and size: an epoch, and its share of the roofline.

    python benchmarks/speed/gpu.py --out benchmarks/results/speed/gpu.jsonl
    python benchmarks/speed/gpu.py --report benchmarks/results/speed/gpu.jsonl

No FuxiCTR, polars or faiss is needed. The data (Zipf ids, learnable labels) are made on the device and
split 8:1 into train and valid rows. Every way of training runs some hundred steps of the Trainer, timed from
one wait for the device to the next; the fastest of a model then runs one whole epoch with its validation.
`--device cpu` with few `--rows` tries the script where there is no GPU.

Roofline of a step: its products at the speed of one large product in the same precision, and its least memory
traffic (`traffic`) at the speed of a large copy, both measured here. The larger of the two is the bound.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import append, commit, machine, write_report
from shapes import SIZES, Data
from torch.utils._python_dispatch import TorchDispatchMode
from worker_ours import MODELS, flops, prepared

from recsys_zoo import create
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.nn import kernels
from recsys_zoo.tasks.binary import BinaryTask
from recsys_zoo.train import backend
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.step import Step
from recsys_zoo.train.trainer import Trainer

CRITEO_X4 = 45_840_617  # rows of the public data set, all splits
WAYS: dict[str, dict[str, Any]] = {
    "rows": {"table_update": "rows"},
    "rows graph": {"table_update": "rows", "cuda_graph": True},
    "exact graph": {"table_update": "exact", "cuda_graph": True},
    "rows graph bf16": {"table_update": "rows", "cuda_graph": True, "precision": "bf16"},
    "rows graph bf16 compile": {
        "table_update": "rows",
        "cuda_graph": True,
        "precision": "bf16",
        "compile": True,
    },
}
ON_CPU = {name: settings for name, settings in WAYS.items() if "cuda_graph" not in settings}
# seconds of an epoch: published with a V100 (BARS), and what one H200 should need
GOALS = {"AutoInt": (660, 30), "DCNv2": (320, 15)}
_CHUNK = 1 << 22  # rows made at a time


def generate(shape: str, rows: int, device: str, seed: int = 7) -> Data:
    """shapes.generate on a device: 8 of 9 rows for training, 1 for validation."""
    sizes, g = SIZES[shape], torch.Generator(device).manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*size, device=device, generator=g)

    columns = []
    for size in sizes:
        share = (1 / torch.arange(1, size + 1, device=device, dtype=torch.float64) ** 1.1).cumsum(0)
        ids = torch.randperm(size, device=device, generator=g) + 1
        columns.append((share / share[-1], ids, normal(size + 1) * 1.5 / len(sizes) ** 0.5))
    left, right = (normal(size + 1, 4) for size in sizes[:2])
    found, labels = np.empty((rows, len(sizes)), np.int32), np.empty(rows, np.float32)
    for first in range(0, rows, _CHUNK):
        count = min(_CHUNK, rows - first)
        made, score = [], torch.zeros(count, device=device)
        for share, ids, effect in columns:
            draw = torch.rand(count, device=device, dtype=torch.float64, generator=g)
            made.append(ids[torch.searchsorted(share, draw).clamp(max=len(ids) - 1)])
            score += effect[made[-1]]
        score += 0.5 * (left[made[0]] * right[made[1]]).sum(1)
        clicks = torch.rand(count, device=device, generator=g) < torch.sigmoid(score - 1)
        found[first : first + count] = torch.stack(made, 1).int().cpu().numpy()
        labels[first : first + count] = clicks.float().cpu().numpy()
    train = rows * 8 // 9
    return Data(sizes, found[:train], labels[:train], found[train:], labels[train:])


class Clock(Callback):
    """(steps, seconds) at each wait for the device and at the end of an epoch; leaves after `most` steps."""

    def __init__(self, every: int, most: int) -> None:
        self.every, self.most, self.marks = every, most, []

    def on_epoch_start(self, info: dict[str, Any]) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, info: dict[str, Any]) -> None:
        if info["step"] % self.every == 0 or info["step"] == info["steps"]:
            self.marks.append((info["step"], time.perf_counter()))
        if self.most and info["step"] >= self.most:
            raise Enough

    def step_ms(self) -> list[float]:
        """Milliseconds a step between two waits, sorted; what was before the first (warm-up) is left out."""
        pairs = itertools.pairwise(self.marks)
        return sorted(1e3 * (b[1] - a[1]) / (b[0] - a[0]) for a, b in pairs)


class Enough(Exception):
    """Raised to leave a training that has been measured."""


def traffic(data: Prepared, network: torch.nn.Module, batch: int, dim: int) -> int:
    """Least bytes a step in rows mode moves, float32.

    Ids read; vectors read, their gradients written and read; weight and two moments of the distinct rows read
    and written; dense weights, gradients and moments likewise; each result of a product written, read by the
    next and by the backward pass, and its gradient written and read.
    """
    split = data.split("train")
    ids = np.asarray(split.ids[:batch])
    distinct = sum(len(np.unique(column)) for column in ids.T)
    lookups, dense = ids.size, 0
    for name, parameter in network.named_parameters():
        dense += parameter.numel() if "embedding" not in name else 0
    few = 256
    with torch.no_grad(), Products() as products:
        network(split.batch(slice(0, few)).inputs)
    outputs = products.numbers * batch // few
    return 4 * (lookups + 3 * lookups * dim + 6 * distinct * dim + 8 * dense + 5 * outputs)


class Products(TorchDispatchMode):
    """Counts the numbers in the results of products."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.bmm):
            self.numbers += out.numel()
        return out


def peaks(device: str) -> dict[str, float]:
    """Operations a second of a large product by precision, bytes a second of a large copy: best of some."""
    size = 8192 if device == "cuda" else 1024

    def best(work: Any) -> float:
        seconds = []
        for _ in range(6):
            wait(device)
            since = time.perf_counter()
            work()
            wait(device)
            seconds.append(time.perf_counter() - since)
        return min(seconds)

    found = {}
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        found[precision] = 2 * size**3 / best(lambda a=a, b=b: torch.mm(a, b))
    source = torch.empty((1 << 30 if device == "cuda" else 1 << 26) // 4, device=device)
    target = torch.empty_like(source)
    found["copy"] = 2 * 4 * source.numel() / best(lambda: target.copy_(source))
    return found


def wait(device: str) -> None:
    """Until the device has done all it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def run(
    data: Prepared, model: str, way: dict[str, Any], args: argparse.Namespace, most: int
) -> tuple[Clock, dict[str, float]]:
    """Train until `most` steps (0: one epoch with its validation); times, and the validation's metrics."""
    cfg = TrainConfig(batch_size=args.batch, epochs=1, device=args.device, eval_batch_size=65536, **way)
    name, options = MODELS[model]
    network = create(name, data.schema, seed=1, embedding={"dim": args.dim}, **options)
    clock = Clock(100 if args.device == "cuda" else 1, most)
    trainer = Trainer(BinaryTask(data), cfg, callbacks=[clock])
    gc.collect()  # a training that was left holds its data and graph
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    valid: dict[str, float] = {}
    with contextlib.suppress(Enough):
        valid = trainer.fit(network).valid
    return clock, valid


def measure(
    data: Prepared, shape: str, model: str, args: argparse.Namespace, facts: dict[str, Any]
) -> list[dict[str, Any]]:
    """One line a way of training, the fastest with its epoch."""
    name, options = MODELS[model]
    kernels.disable()  # products are counted where torch makes them
    network = create(name, data.schema, seed=1, embedding={"dim": args.dim}, **options)
    cost = {
        "flops": flops(Step(network, BinaryTask(data)), data.split("train"), args.batch),
        "traffic": traffic(data, network, args.batch, args.dim),
    }
    short, lines = first_rows(data, args.steps * args.batch), []
    for way, settings in (WAYS if args.device == "cuda" else ON_CPU).items():
        clock, _ = run(short, model, settings, args, args.steps)
        each = clock.step_ms()
        lines.append(
            {
                **{"shape": shape, "model": model, "batch": args.batch, "dim": args.dim, "way": way},
                **{"best_ms": round(each[0], 4), "median_ms": round(each[len(each) // 2], 4)},
                **{"settings": settings, **cost, **facts, "peak_mib": memory(args.device)},
            }
        )
        print(json.dumps(lines[-1]), flush=True)
    best = min(lines, key=lambda line: line["median_ms"])
    clock, valid = run(data, model, best["settings"], args, 0)
    trained = clock.marks[-1][1] - clock.began
    best |= {"epoch_s": round(trained, 2), "peak_mib": memory(args.device)}
    best |= {"valid_s": round(time.perf_counter() - clock.marks[-1][1], 2), "auc": round(valid["auc"], 6)}
    return lines


def first_rows(data: Prepared, rows: int) -> Prepared:
    """The same with that many train rows, quicker to move to a device."""
    train = data.split("train")
    short = Split(data.schema, train.ids[:rows], None, train.labels[:rows])
    return Prepared.in_memory(data.schema, {"train": short, "valid": data.split("valid")}, "speed")


def memory(device: str) -> int:
    """Most memory of the device that was taken since it was last set back."""
    return round(torch.cuda.max_memory_allocated() / 2**20) if device == "cuda" else 0


def report(lines: list[dict[str, Any]]) -> str:
    """Markdown: a row a way of training."""
    first = lines[0]
    text = [
        "# Training speed on a GPU",
        "",
        f"Generated by `benchmarks/speed/gpu.py`. {first['device']}, torch {first['torch']}, commit "
        f"{first['commit']}; {first['rows']:,} rows of Criteo's shape on the device. Milliseconds a step: "
        "best (median) of the stretches between two waits for the device. Epoch: one pass over the train "
        "rows (8 of 9), warm-up and capture included; then the validation of the rest with its exact AUC.",
        "",
        f"Measured peaks: {first['peaks']['fp32'] / 1e12:.1f} TFLOP/s (fp32 setting), "
        f"{first['peaks']['bf16'] / 1e12:.1f} TFLOP/s (bf16), {first['peaks']['copy'] / 1e9:,.0f} GB/s.",
        "",
        "| shape | model | batch | way | step | samples/s | compute roofline | memory roofline | peak MiB "
        "| epoch s | validation s | AUC | published s (V100), goal (H200) |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        precision = line["settings"].get("precision", "fp32")
        compute = 1e3 * line["flops"] / line["peaks"][precision]
        moved = 1e3 * line["traffic"] / line["peaks"]["copy"]
        goal = GOALS.get(line["model"])
        text.append(
            f"| {line['shape']} | {line['model']} | {line['batch']} | {line['way']} | {line['best_ms']:.3f} "
            f"({line['median_ms']:.3f}) | {1e3 * line['batch'] / line['best_ms']:,.0f} "
            f"| {compute:.3f} ms, {compute / line['best_ms']:.0%} | {moved:.3f} ms, "
            f"{moved / line['best_ms']:.0%} | {line['peak_mib']:,} | {line.get('epoch_s', '-')} "
            f"| {line.get('valid_s', '-')} | {line.get('auc', '-')} "
            f"| {f'{goal[0]}, {goal[1]}' if goal and 'epoch_s' in line else '-'} |"
        )
    return "\n".join(text) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--report", type=Path, help="only write FILE.md from the lines of FILE.jsonl")
    add("--shapes", default="criteo1m,criteo5m")
    add("--models", default="AutoInt,DeepFM,DCNv2")
    add("--rows", type=int, default=CRITEO_X4, help="of train and valid together")
    add("--batch", type=int, default=10_000)
    add("--dim", type=int, default=16)
    add("--steps", type=int, default=600, help="steps of a way of training; the first 100 are not timed")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--out", type=Path, help="JSON lines, appended")
    args = parser.parse_args()
    if args.report:
        write_report(args.report, report)
        return
    if not args.out:
        parser.error("--out is needed")
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here; --device cpu --rows 100000 tries the script")
    backend.apply(TrainConfig(device=args.device))
    facts = {
        "rows": args.rows,
        "device": torch.cuda.get_device_name() if args.device == "cuda" else machine(),
        "torch": torch.__version__,
        "peaks": peaks(args.device),
        "commit": commit(Path(__file__).parent),
        "when": time.strftime("%Y-%m-%d"),
    }
    for shape in args.shapes.split(","):
        made = generate(shape, args.rows, args.device)
        data = prepared(made, "valid")
        for model in args.models.split(","):
            append(args.out, measure(data, shape, model, args, facts))


if __name__ == "__main__":
    main()
