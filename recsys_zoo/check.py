"""What is checked of rows before they stand on a board: `recsys-zoo board check`.

A row cannot prove that it was run; `recsys-zoo board reproduce` does that. Here it is held against itself,
the other rows of its file and what is kept beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import runs
from .board.draws import kept_at, read_draws
from .board.key import JUDGED, Key, key_of
from .board.rank import main_metric, main_pair, worded_metric
from .board.rows import Row, config_digest, read_rows
from .errors import InputError
from .metrics.bootstrap import interval_of

_COPIED = ("table_update", "precision")  # fields of a row that its training settings hold too


def check_file(path: Path) -> list[str]:
    """The problems of a file of rows, each with the row's number; empty when there are none."""
    rows = read_rows(path)
    found = [f"{path}, row {number} ({row.label} seed {row.seed}): {problem}"
             for number, row in enumerate(rows, start=1) for problem in _alone(row, path)]
    return [*found, *(f"{path}: {problem}" for problem in _together(rows))]


def _alone(row: Row, path: Path) -> Iterator[str]:
    config, train = row.config, row.config.get("train", {})
    if row.config_digest != config_digest(config):
        yield "its settings are not those of its settings digest"
    if config.get("board") != row.board or config.get("model", {}).get("name") != row.label:
        yield "its settings are of another board or model"
    if not row.git or "-dirty" in row.git:
        yield f"commit {row.git or 'unknown'}: run it from a clean checkout, so that others have the code"
    if row.role != "model":
        return
    if config.get("data_digest") != row.data_digest:
        yield "its settings name other data than its data digest"
    if train.get("seed") != row.seed:
        yield f"its settings have seed {train.get('seed')}"
    yield from (f"{name} is {getattr(row, name)}, its settings say {train.get(name)}"
                for name in _COPIED if train.get(name) != getattr(row, name))
    said = config.get("hparams"), config.get("trials"), config.get("minutes", 0.0)
    if said != (row.hparams, row.trials, row.minutes):
        yield "origin of the settings, trials or minutes are not those of its settings"
    if row.hparams == "valid" and row.trials < 2 and not row.minutes:
        yield "tuned on valid in one trial; say how many settings were tried"
    try:
        runs.settings_of(row)
    except InputError as error:
        yield f"its settings are not known to this version ({error})"
    if row.status == "done":
        yield from _scores(row, path)
    elif not row.reason:
        yield f"{row.status} without a reason"


def _scores(row: Row, path: Path) -> Iterator[str]:
    metrics = row.metrics
    wrong = [name for name, value in metrics.items() if not math.isfinite(value)]
    if wrong:
        yield f"{', '.join(wrong)} not finite"
    main = main_metric([row])
    name, words = main.removeprefix("test."), worded_metric(main)
    chosen = name
    if row.protocol == JUDGED:  # on valid nothing is judged
        chosen = row.config.get("train", {}).get("monitor", name)
    missing = {main, main_pair(main)[1], *[f"valid.{chosen}"] * (row.selection == "valid")} - set(metrics)
    if missing:
        yield f"without {', '.join(sorted(missing))}"
    if not row.scores_digest:
        yield "without the digest of its test scores"
        return
    ends = [metrics.get(f"{main}_{end}", math.nan) for end in ("low", "high")]
    if any(map(math.isnan, ends)):
        yield f"without an interval of its {words}; run it with bootstrap = 200"
        return
    if not ends[0] <= metrics.get(main, math.nan) <= ends[1]:
        yield f"its {words} does not lie in its interval"
    kept = kept_at(path, row.scores_digest)
    if kept.is_file():
        draws = read_draws(kept).metrics[name][: row.config.get("bootstrap", 0)]  # more may be kept
        interval = interval_of(metrics.get(main, math.nan), draws)
        if not all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(ends, interval[1:3], strict=True)):
            yield f"its interval is not that of its resampled metrics ({kept})"


def _together(rows: Iterable[Row]) -> Iterator[str]:
    """Problems between rows: other data under one name, two results of one run."""
    data: dict[tuple[str, str], set[str]] = {}
    once: dict[tuple[str, str, str, int], Row] = {}
    tuned: dict[tuple[str, Key], set[str]] = {}
    for number, row in enumerate(rows, start=1):
        data.setdefault((row.board, row.config.get("label", "")), set()).add(row.data_digest)
        key = (row.label, row.config_digest, row.data_digest, row.seed)
        if row.role != "model" or row.status != "done":
            continue
        if key in once:
            yield f"row {number} ({row.label} seed {row.seed}) is there twice; the later one counts"
        once[key] = row
        if row.hparams == "valid":
            tuned.setdefault((row.label, key_of(row)), set()).add(row.config_digest)
    for (label, key), settings in tuned.items():
        if len(settings) > 1:
            yield f"{label}: {len(settings)} settings of {key.origin}; one budget gives one setting"
    for (board, label), digests in data.items():
        if len(digests) > 1:
            what = f"{board}, label {label}" if label else board
            yield f"{what}: rows of different data ({', '.join(sorted(d[:12] for d in digests))})"
