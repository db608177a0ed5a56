"""Settings of a training; the defaults are the BARS recipe."""

from __future__ import annotations

import difflib
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ..config import Frozen, Search
from ..stage import Stage

MONITORS = ("auc", "gauc", "logloss", "auc-logloss", "auc+gauc", "user_auc", "item_auc")
_OF_A_LIST = re.compile(r"((snips_)?recall|recall_capped|snips_dcg|precision|hit_rate|ndcg|mrr|map)@[1-9]\d*")


def _monitor(name: str) -> str:
    if name not in MONITORS and not _OF_A_LIST.fullmatch(name):
        near = difflib.get_close_matches(name, [*MONITORS, "recall@20", "ndcg@20"], n=2, cutoff=0.5)
        raise ValueError(f"no metric of this name; did you mean {near}?" if near else
                         f"no metric of this name; choose one of {list(MONITORS)}, or of a list: recall@20")
    return name


class TrainConfig(Frozen):
    """One training: Adam (or another rule), global gradient clipping, lr cut and early stopping on valid."""

    epochs: int = Field(100, ge=1, description="most epochs of a stage")
    batch_size: int = Field(4096, ge=1, description="examples a step")
    micro_batch: int = Field(
        0,
        ge=0,
        description="examples a forward pass, gradients accumulated; 0: the whole "
        "batch. Batch norm then sees micro-batches",
    )
    eval_batch_size: int = Field(16384, ge=1, description="examples a forward pass of evaluation")
    optimizer: Literal["adam", "adagrad", "sgd"] = Field(
        "adam", description="rule by which all weights move (train/rules.py); sgd has no momentum"
    )
    lr: Annotated[float, Search(low=1e-4, high=1e-2, log=True)] = Field(
        1e-3, gt=0, description="learning rate; the range that is searched is Adam's"
    )
    clip_norm: float = Field(10.0, gt=0, description="largest global gradient norm, L2 terms included")
    table_l2: Annotated[float, Search(low=1e-6, high=0.5, log=True, zero=True)] = Field(
        0.0, ge=0, description="adds (w/2)*||.||^2 over the embedding layer to the loss"
    )
    net_l2: Annotated[float, Search(low=1e-7, high=1e-3, log=True, zero=True)] = Field(
        0.0, ge=0, description="the same over all other parameters"
    )
    table_update: Literal["autograd", "exact", "rows"] = Field(
        "autograd",
        description="how embedding tables move; exact: the same result without a dense gradient; "
        "rows: only rows of the batch move and decay (another algorithm)",
    )
    monitor: Annotated[str, AfterValidator(_monitor)] = Field(
        "auc", description="validation metric that picks the best epoch; of rankings recall@20, ndcg@20 ..., "
        "where they are of new items also auc, user_auc, item_auc and, of chances, logloss"
    )
    patience: int = Field(2, ge=1, description="epochs in a row without improvement before the stop")
    min_delta: float = Field(1e-6, ge=0, description="an improvement is at least this")
    plateau_factor: float = Field(
        0.1, gt=0, le=1, description="lr is multiplied by this after an epoch without one"
    )
    plateau_from: Literal["last", "best"] = Field(
        "last", description="the weights that training goes on from after such an epoch"
    )
    min_lr: float = Field(1e-6, ge=0, description="lr is never cut below this")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16: autocast of the forward pass")
    matmul: Literal["auto", "highest", "high", "medium"] = Field(
        "auto",
        description="float32 matmul of torch; auto measures the error and takes the fastest that keeps fp32",
    )
    kernels: Literal["auto", "torch"] = Field(
        "auto", description="auto: C++ kernels on a CPU with a compiler; torch: torch operations alone"
    )
    compile: bool = Field(False, description="torch.compile of the step")
    cuda_graph: bool = Field(
        False, description="replay the step as a CUDA graph; needs a GPU, Adam, table_update exact or rows"
    )
    deterministic: bool = Field(False, description="refuse operations without a reproducible result")
    device: str = Field(
        "auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto (cuda when there is one, else cpu), cpu, cuda or cuda:0",
    )
    threads: int = Field(0, ge=0, description="CPU threads of torch; 0: as the environment says")
    save_every_s: float = Field(60.0, ge=0, description="seconds between two saves of the training state")
    seed: int = Field(1, ge=0, lt=2**31, description="initial weights, order of examples, dropout")
    stages: tuple[Stage, ...] = Field((Stage(),), min_length=1, description="stages in their order")
