"""Run a row again from its own record and say whether it came out the same.

With the row's seed under the same conditions (device, threads, torch, kernels, processor) every test score
must be bit-identical; that holds on a CPU, and on a GPU in deterministic mode. With another seed, or under
other conditions, the value must lie where one more seed would by the rows of the board.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import launch, references, runs
from .board.key import key_of
from .board.rank import main_metric, worded_metric
from .board.rows import Row, read_rows
from .data.store import Prepared
from .errors import InputError
from .metrics.paired import pooled_spread, prediction_interval

FRESH = 1000  # added to a row's seed for a fresh one
CONDITIONS = ("device", "threads", "cpu_capability", "processor", "torch", "kernels")


@dataclass(frozen=True)
class Reproduction:
    """A row and what its rerun came to."""

    row: Row
    again: Row
    interval: tuple[float, float] | None  # of `metric` for one more seed; None where no seeds say it

    @property
    def metric(self) -> str:
        """What the two are compared by."""
        return main_metric([self.row])

    @property
    def fresh(self) -> bool:
        return self.row.seed != self.again.seed

    @property
    def conditions(self) -> dict[str, tuple[str, str]]:
        """Conditions that differ, then and now; one that the row does not say may differ too."""
        found = {name: tuple(str(getattr(row, name)) or "not recorded" for row in (self.row, self.again))
                 for name in CONDITIONS}
        return {name: (then, now) for name, (then, now) in found.items() if then != now}

    @property
    def differences(self) -> dict[str, tuple[float, float]]:
        """Metrics of the row that came out otherwise, then and now (NaN where it has none now)."""
        found = {name: (value, self.again.metrics.get(name, float("nan")))
                 for name, value in self.row.metrics.items()}
        return {name: pair for name, pair in found.items() if pair[0] != pair[1]}

    @property
    def identical(self) -> bool:
        """Every test score and every metric is the same bit for bit."""
        same = self.row.scores_digest == self.again.scores_digest and not self.differences
        return same and self.row.status == self.again.status == "done"

    @property
    def inside(self) -> bool | None:
        """Whether the new value lies in the prediction interval; None without one."""
        if self.interval is None:
            return None
        return self.interval[0] <= self.again.metrics.get(self.metric, float("nan")) <= self.interval[1]

    @property
    def bitwise(self) -> bool:
        """Whether bit-identity was to be expected: same seed and conditions, and nothing random by nature."""
        exact = self.row.device == "cpu" or self.row.config.get("train", {}).get("deterministic", False)
        return not self.fresh and not self.conditions and exact

    @property
    def good(self) -> bool:
        if self.again.status != self.row.status:
            return False
        if self.row.status == "dead":
            return self.again.reason == self.row.reason
        return self.identical if self.bitwise else self.identical or bool(self.inside)

    def lines(self) -> Iterator[str]:
        """For the console; the verdict comes last."""
        then, now = self.row, self.again
        yield f"{then.label} on {then.board}, seed {then.seed}{f' and {now.seed}' if self.fresh else ''}"
        yield f"  commit {then.git or 'unknown'}, now {now.git}"
        for name, pair in self.conditions.items():
            yield f"  {name.replace('_', ' ')}: {pair[0]}, now {pair[1]}"
        name = self.metric
        if name in then.metrics and name in now.metrics:
            yield (f"  {worded_metric(name)} {then.metrics[name]:.6f}, now {now.metrics[name]:.6f} "
                   f"({now.metrics[name] - then.metrics[name]:+.2e})")
        if self.interval and not self.identical:
            where = "inside" if self.inside else "outside"
            yield (f"  {where} the 95 % prediction interval of one more seed, {self.interval[0]:.6f} to "
                   f"{self.interval[1]:.6f}")
        yield self.verdict

    @property
    def verdict(self) -> str:
        if self.again.status != self.row.status:
            return f"not reproduced: the row is {self.row.status}, the rerun {self.again.status}"
        if self.row.status == "dead":
            return f"{'reproduced' if self.good else 'not reproduced'}: both runs died ({self.again.reason})"
        if self.identical:
            return "reproduced bit for bit"
        if self.good:
            return f"reproduced within the spread of seeds{'' if self.fresh else ', under other conditions'}"
        if self.bitwise:
            return "not reproduced: scores or metrics came out otherwise under the same conditions"
        if self.interval is None:
            return "not reproduced: not bit-identical, and there are no rows of other seeds to judge it by"
        return "not reproduced: outside what seeds explain"


def find_row(target: str, entry: str = "", seed: int | None = None) -> tuple[Row, list[Row]]:
    """The row that FILE:NUMBER, FILE with entry and seed, or a run folder names, and the rows of its file."""
    path, _, line = target.rpartition(":")
    if path and line.isdigit():
        rows = read_rows(Path(path))
        if not 1 <= int(line) <= len(rows):
            raise InputError(f"{path}: has no row {line}, only rows 1 to {len(rows)}")
        return rows[int(line) - 1], rows
    if Path(target).is_dir() or Path(target).name == "row.json":
        folder = Path(target) if Path(target).is_dir() else Path(target).parent
        return runs.read_row(folder), []
    rows = read_rows(Path(target))
    fits = [(n, row) for n, row in enumerate(rows, 1)
            if (not entry or row.label == entry) and seed in (None, row.seed)]
    if len(fits) != 1:
        shown = ", ".join(f"{n} ({row.label} seed {row.seed})" for n, row in fits[:8])
        raise InputError(f"{target}: {len(fits)} rows fit; name one by --entry and --seed, or as "
                         f"{target}:NUMBER{f', for example {shown}' if fits else ''}")
    return fits[0][1], rows


def reproduce(row: Row, board: list[Row], out: Path, *, fresh: bool = False, data: str = "",
              raw: Path | None = None, say: Callable[[str], None] = print) -> Reproduction:
    """Make the run of a row again below `out`, as it was or with a fresh seed.

    board: rows whose seeds say how far a value moves. data: prepared folder, where the row's own name is not
    found here. InputError when the data are not those of the row, or nothing can be run again.
    """
    if row.status == "failed":
        raise InputError(f"{row.label} seed {row.seed}: this run failed ({row.reason}); `recsys-zoo board "
                         "run --retry-failed` tries it again")
    if row.role == "ceiling":
        raise InputError(f"{row.label}: a ceiling comes from the makers of the data and cannot be run again")
    named = data or _data_name(row, board)
    if not named:
        raise InputError(f"{row.label}: the row does not say which data it was made on; name them by --data")
    prepared = launch.open_data(named, raw)
    if prepared.data_digest != row.data_digest:
        raise InputError(f"{row.label} seed {row.seed}: made on data {row.data_digest[:16]}, and these are "
                         f"{prepared.data_digest[:16]}; name the right ones by --data or --raw")
    again = _floor(row, prepared) if row.role == "floor" else _train(row, prepared, out, fresh, say)
    return Reproduction(row, again, _interval(row, board))


def _data_name(row: Row, board: list[Row]) -> str:
    """As the row's settings name its data, or those of another row on the same data (floors have none)."""
    same = [row, *(r for r in board if r.data_digest == row.data_digest)]
    return next((name for r in same if (name := r.config.get("data", ""))), "")


def _train(row: Row, data: Prepared, out: Path, fresh: bool, say: Callable[[str], None]) -> Row:
    cfg = runs.settings_of(row)
    train = {"seed": row.seed + FRESH * fresh, "threads": row.threads}
    if row.kernels == "torch":  # also of rows that are older than a kernel
        train["kernels"] = "torch"
    cfg = cfg.model_copy(update={"train": cfg.train.model_copy(update=train)})
    folder = launch.default_folder(cfg, out)
    if (folder / "row.json").is_file():
        raise InputError(f"{folder}: holds this rerun already; remove it, or choose another --out")
    resume = (folder / "config.toml").is_file() and not (folder / "row.json").is_file()
    return runs.train(cfg, data, folder, resume=resume, command=row.command, say=say)


def _floor(row: Row, data: Prepared) -> Row:
    config = row.config
    found = references.floors(data, row.board, config.get("label", ""), config.get("bootstrap", 200),
                              protocol=config.get("protocol", "honest"))
    for floor in found:
        if floor.label == row.label:
            return floor
    raise InputError(f"{row.label}: no floor of these data has this name")


def _interval(row: Row, board: list[Row]) -> tuple[float, float] | None:
    metric = main_metric([row])
    same = [r for r in board if r.role == "model" and r.status == "done" and metric in r.metrics
            and key_of(r) == key_of(row)]
    groups: dict[tuple[str, str], dict[int, float]] = {}
    for r in same:
        groups.setdefault((r.label, r.config_digest), {})[r.seed] = r.metrics[metric]
    drawn = {(r.label, r.config_digest) for r in same if r.seeded}
    pooled = pooled_spread([list(groups[entry].values()) for entry in drawn])
    own = groups.get((row.label, row.config_digest), {})
    return prediction_interval(list(own.values()), pooled) if own and pooled.df else None
