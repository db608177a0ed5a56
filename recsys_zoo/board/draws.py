"""The resampled test metrics of a run: what paired tests need of its per-example scores, a few kB a run.

All runs on the same test rows see the same resamples (whole users where there are users), so replicate r of
one run and replicate r of another are a pair. The file lies in the run folder, and a copy in draws/ beside a
file of rows, where it outlives the scores.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ..errors import InputError
from ..files import write_whole
from ..metrics.bootstrap import multiplicities, resample
from ..metrics.paired import variance_of
from .rows import Row
from .scores import Scores, read_scores

FOLDER, FILE = "draws", "draws_test.safetensors"
REPLICATES = 200  # where they are made from scores
_AT_ONCE = 8  # replicates
_ROWS = "test_rows"  # tensor that holds the digest of labels and groups


class Draws(NamedTuple):
    """Replicates [R] of each metric, and the digest of the labels and groups of the test rows."""

    metrics: dict[str, Tensor]
    test_rows: str

    @property
    def unit(self) -> str:
        """What was resampled: users where a metric is one of users (gAUC, and those of lists)."""
        return "users" if any(name == "gauc" or "@" in name for name in self.metrics) else "rows"


def draws_of(scores: Scores, replicates: int = REPLICATES) -> Draws:
    """Resample a set of scores."""
    digest = hashlib.sha256(scores.label.to(torch.int8).numpy().tobytes())
    if scores.group is not None:
        digest.update(scores.group.to(torch.int64).numpy().tobytes())
    return Draws(resample(scores.score, scores.label, scores.group, replicates), digest.hexdigest())


def of_users(values: Mapping[str, Tensor], test_rows: str, replicates: int = REPLICATES) -> Draws:
    """Resample means over users: values [U] by metric; test_rows: digest of what was ranked for whom."""
    generator, users = torch.Generator().manual_seed(0), len(next(iter(values.values())))
    found: dict[str, list[Tensor]] = {name: [] for name in values}
    for start in range(0, replicates, _AT_ONCE):  # of millions of users all replicates are gigabytes
        counts = multiplicities(min(_AT_ONCE, replicates - start), users, generator).double()
        for name, value in values.items():
            found[name].append(counts @ value.cpu() / counts.sum(1))
    return Draws({name: torch.cat(parts) for name, parts in found.items()}, test_rows)


def write_draws(path: Path, draws: Draws) -> None:
    """Write a safetensors file."""
    digest = torch.tensor(list(bytes.fromhex(draws.test_rows)), dtype=torch.uint8)
    write_whole(path, save({**draws.metrics, _ROWS: digest}))


def read_draws(path: Path) -> Draws:
    """Read them back; InputError for a file that is none."""
    try:
        tensors = load(path.read_bytes())
        digest = bytes(tensors.pop(_ROWS).tolist()).hex()
        if len({len(values) for values in tensors.values()}) != 1:
            raise KeyError("replicates of different number")
    except (SafetensorError, KeyError) as error:
        raise InputError(f"{path}: not the resampled metrics of a run ({error}); remove the file, and "
                         "`recsys-zoo board draws` makes it again from the scores") from None
    return Draws(tensors, digest)


def kept_at(rows: Path, digest: str) -> Path:
    """Where the draws of a scores digest are kept beside a file of rows."""
    return rows.parent / FOLDER / f"{digest[:16]}.safetensors"


def keep(run: Path, rows: Path, digest: str) -> None:
    """Copy the draws of a run, where it has some, beside a file of rows."""
    if (run / FILE).is_file():
        write_whole(kept_at(rows, digest), (run / FILE).read_bytes())


class Bank:
    """Draws by scores digest: kept beside files of rows, else made from scores that are at hand."""

    def __init__(self, files: Iterable[Path] = (), scores: Mapping[str, Path] | None = None,
                 say: Callable[[str], None] = lambda _: None) -> None:
        """files: files of rows; scores: digest -> file of scores; say: hears of work that takes time."""
        self.files, self.scores, self.say = list(files), scores or {}, say
        self.found: dict[str, Draws] = {}
        self.made = 0

    def has(self, digest: str) -> bool:
        """Whether draws or scores are at hand."""
        return digest in self.found or self._kept(digest) is not None or digest in self.scores

    def of(self, digest: str) -> Draws:
        """The draws of a digest that the bank has."""
        if digest not in self.found:
            kept = self._kept(digest)
            if kept is None:
                if not self.made:
                    self.say("resampling test scores; `recsys-zoo board draws` keeps what it takes")
                self.made += 1
                self.found[digest] = draws_of(read_scores(self.scores[digest], digest))
            else:
                self.found[digest] = read_draws(kept)
        return self.found[digest]

    def _kept(self, digest: str) -> Path | None:
        return next((path for file in self.files if (path := kept_at(file, digest)).is_file()), None)

    def variance(self, metric: str, one: Sequence[Row], other: Sequence[Row]) -> tuple[float, str] | None:
        """Variance over resamples of the difference of two entries' means over seeds, and the unit.

        None where draws or the metric are missing. InputError when they are not of the same test rows.
        """
        if not all(self.has(row.scores_digest) for row in (*one, *other)):
            return None
        draws = [[self.of(row.scores_digest) for row in rows] for rows in (one, other)]
        every = [d for side in draws for d in side]
        if any(metric not in d.metrics for d in every):
            return None
        if len({d.test_rows for d in every}) > 1:
            raise InputError(f"{one[0].label}, {other[0].label}: their scores are not of the same test rows")
        count = min(len(d.metrics[metric]) for d in every)
        means = [torch.stack([d.metrics[metric][:count] for d in side]).mean(0) for side in draws]
        return variance_of(means[0] - means[1]), every[0].unit
