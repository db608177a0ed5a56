"""Per-example test scores beside a run: any metric or paired test can be computed again without training."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError
from ..files import write_whole
from ..metrics.binary import evaluate_binary
from ..metrics.bootstrap import Interval, bootstrap


class Scores(NamedTuple):
    """Test rows in file order: label and score [n], group [n] or None."""

    label: Tensor
    score: Tensor
    group: Tensor | None

    @property
    def digest(self) -> str:
        """SHA-256 of the values, whatever the file's compression or the version that wrote it."""
        digest = hashlib.sha256()
        for name, values in self._asdict().items():
            if values is not None:
                array = np.ascontiguousarray(values.numpy())
                digest.update(f"{name} {array.dtype} {len(array)}\n".encode() + array.tobytes())
        return digest.hexdigest()


def write_scores(path: Path, label: np.ndarray, score: np.ndarray, group: np.ndarray | None = None) -> str:
    """Write label (int8), score (floats as given) and group (int64) as Parquet; returns the digest."""
    import polars as pl
    scores = Scores(torch.tensor(np.asarray(label), dtype=torch.int8), torch.tensor(np.asarray(score)),
                    None if group is None else torch.tensor(np.asarray(group), dtype=torch.int64))
    columns = {name: values.numpy() for name, values in scores._asdict().items() if values is not None}
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    write_whole(path, buffer.getvalue())
    return scores.digest


def read_scores(path: Path, digest: str = "") -> Scores:
    """Read them back; InputError when the file is damaged, or when its values are not those of `digest`."""
    import polars as pl

    from ..data.read import readable
    with readable(path, "the scores of this run are gone"):
        frame = pl.read_parquet(path, memory_map=False, glob=False)
    for name in ("label", "score"):
        if name not in frame.columns:
            raise InputError(f"{path}: the column {name!r} is missing; is this a file of scores?")
    group = torch.tensor(frame["group"].to_numpy()) if "group" in frame.columns else None
    scores = Scores(torch.tensor(frame["label"].to_numpy()), torch.tensor(frame["score"].to_numpy()), group)
    if digest and scores.digest != digest:
        raise InputError(f"{path}: its values are not those the row was made from (digest {digest[:12]}); "
                         "score the run again")
    return scores


def recompute(path: Path, digest: str = "") -> tuple[dict[str, float], dict[str, Interval]]:
    """All metrics of a file of scores, and their bootstrap intervals (by group where there are groups)."""
    scores = read_scores(path, digest)
    return (evaluate_binary(scores.score, scores.label, scores.group),
            bootstrap(scores.score, scores.label, scores.group))


def score_files(runs: Path) -> dict[str, Path]:
    """Digest -> file of scores for all finished runs below a folder."""
    found = {}
    for path in sorted(Path(runs).rglob("row.json")):
        digest = json.loads(path.read_text(encoding="utf-8")).get("scores_digest", "")
        if digest and path.with_name("scores_test.parquet").is_file():
            found[digest] = path.with_name("scores_test.parquet")
    return found
