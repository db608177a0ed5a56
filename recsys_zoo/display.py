"""What the commands print, and the pictures they draw."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .board.rows import Row
from .errors import InputError

if TYPE_CHECKING:
    from .suite import Estimate
    from .tuning import Study


def show_model(name: str) -> None:
    """Card, settings with defaults and meaning, published numbers."""
    from .registry import preset_settings
    from .zoo import resolve

    cls, cfg = resolve(name)
    card, base = cls.card, name.partition(".")[0]
    print(f"{card.name} ({card.year})  {card.title}\n{card.authors}\n{card.url}\n\n{card.equations}\n")
    print(f"faithful to: {card.faithful}")
    for note in card.notes:
        print(f"  - {note}")
    print("\nsettings")
    _settings(cfg, "model.")
    for preset in cls.presets:
        trained = f", trained with {said}" if (said := cls.preset_training.get(preset)) else ""
        print(f"preset {base}.{preset}: {preset_settings(cls, f'{base}.{preset}')}{trained}")
    if card.published:
        print("\npublished")
    for entry in card.published:
        numbers = "  ".join(f"{k} {v}" for k, v in entry.metrics.items())
        print(f"  {entry.board}: {numbers}  [{entry.source}]")


def _settings(cfg: Any, prefix: str) -> None:
    from .config import Frozen

    for key, info in type(cfg).model_fields.items():
        value = getattr(cfg, key)
        if isinstance(value, Frozen):
            _settings(value, f"{prefix}{key}.")
        else:
            print(f"  {prefix + key} = {value!r}".ljust(44) + f"  {info.description or ''}")


def preparing() -> Callable[[str, int, int], None] | None:
    """A line that counts the rows of each pass on a terminal; None elsewhere."""
    if not sys.stderr.isatty():
        return None

    def show(what: str, done: int, total: int) -> None:
        of = f" of {total:,}" if total else ""
        end = "\n" if done == total else ""
        print(f"\r{what}: {done:,}{of} rows\x1b[K", end=end, file=sys.stderr, flush=True)

    return show


def show_row(row: Row, folder: Path) -> None:
    """The numbers of one run."""
    print(
        f"{row.model}{'.' + row.variant if row.variant else ''}  seed {row.seed}  {row.status}"
        + (f": {row.reason}" if row.reason else "")
    )
    sliced = [key for key in row.metrics if "|" in key]
    for key in (key for key in row.metrics if key not in sliced):
        print(f"  {key:<24} {row.metrics[key]:.6f}")
    if sliced:
        print(f"  {len(sliced)} more of slices and orders of equal scores: recsys-zoo show {folder}")
    print(
        f"  {row.params:,} parameters, best epoch {row.best_epoch} of {row.epochs}, {row.seconds:.0f} s, "
        f"{row.rows_per_s:,.0f} rows/s, peak {row.peak_mib:,.0f} MiB, hparams={row.hparams}"
    )
    if row.choice:
        print(f"  {row.choice}")
    if row.note:
        print(f"  note: {row.note}")
    print(f"  {folder}")


def show_audit(record: dict[str, Any]) -> None:
    """The findings of an audit, then its tables."""
    if record.get("kind") == "ranking":
        _show_ranking_audit(record)
        return
    print(f"{record['dataset']}, label {record['label']}, data {record['data_digest'][:16]}")
    for warning in record["warnings"]:
        print(f"  ! {warning}")
    if not record["warnings"]:
        print("  nothing to warn of")
    print(f"\nsplits (made by: {record['order']['split_method']})")
    heads = ("split", "rows", "positive", "repeated", "in train", "same label", "tied pairs", "AUC ceiling")
    lines = [heads]
    for name, s in record["splits"].items():
        shares = [s["positive_rate"], s["repeated"], s.get("in_train"), s.get("in_train_same_label")]
        cells = ["-" if share is None else f"{share:.2%}" for share in shares]
        lines.append((name, f"{s['rows']:,}", *cells, f"{s['tied_pairs']:.2%}", f"{s['auc_ceiling']:.4f}"))
    _table(lines)
    held = [name for name in record["splits"] if name != "train"]
    print("\ncolumns: rows with an unknown value; valid AUC of the column's rates alone")
    columns = sorted(record["columns"], key=lambda c: -c.get("valid_auc", 0))
    lines = [("column", *(f"unknown in {name}" for name in held), "valid AUC")]
    for c in columns:
        alone = f"{c['valid_auc']:.4f}" if "valid_auc" in c else "-"
        lines.append((c["column"], *(f"{c['unknown'][name]:.2%}" for name in held), alone))
    _table(lines)
    print("\npairs of columns that say most about the label of valid")
    lines = [("pair", "valid AUC", "determined", "of these right")]
    for p in record["pairs"]:
        name, shares = " x ".join(p["columns"]), (p["determined"], p["determined_right"])
        lines.append((name, f"{p['auc']:.4f}", *(f"{share:.2%}" for share in shares)))
    _table(lines)
    print("\nfloors (nothing learnt)")
    lines = [("floor", *(f"{name} AUC" for name in held), *(f"{name} logloss" for name in held))]
    for name, metrics in record["floors"].items():
        values = [metrics[f"{split}.{metric}"] for metric in ("auc", "logloss") for split in held]
        lines.append((name, *("-" if value is None else f"{value:.6f}" for value in values)))
    _table(lines)


def _show_ranking_audit(record: dict[str, Any]) -> None:
    print(f"{record['dataset']}, rankings, data {record['data_digest'][:16]}")
    for warning in record["warnings"] or ["nothing to warn of"]:
        print(f"  {'! ' * bool(record['warnings'])}{warning}")
    print(f"\nsplits (made by: {record['order']['split_method']}); cold: without a row in what is fitted")
    shares = ("seen_pairs", "rows_of_cold_users", "rows_of_cold_items", "cold_users", "cold_items")
    lines = [("split", "rows", "users", "items", "repeated", *(name.replace("_", " ") for name in shares))]
    for name, facts in record["splits"].items():
        cells = (f"{facts[s]:.2%}" if s in facts else "-" for s in shares)
        lines.append((name, *(f"{facts[c]:,}" for c in ("rows", "users", "items", "repeated")), *cells))
    _table(lines)
    popularity = record["popularity"]
    print(f"\npopularity of items in train: Gini {popularity['gini']:.3f}; the most popular tenth has "
          f"{popularity['popular_share']:.1%} of the rows; {popularity['tied_pairs']:.1%} of the pairs of "
          "items are equally popular")
    print("\n" + "\n".join([*record["no_floors"], *["floors (without training)"] * bool(record["floors"])]))
    if not record["floors"]:
        return
    metrics = [f"{split}.{m}@20" for split in ("valid", "test") for m in ("recall", "ndcg")]
    metrics += ["test.dcg@5", "test.coverage@20"]
    held = [name for name in metrics if any(name in floor for floor in record["floors"].values())]
    lines = [("floor", *held)]
    lines += [(name, *(f"{floor[m]:.6f}" if m in floor else "-" for m in held))
              for name, floor in record["floors"].items()]
    _table(lines)


def show_estimate(estimates: Iterable[Estimate]) -> None:
    """What a suite has to do: runs, time and memory."""
    lines = [("recipe", "runs", "time", "MiB of tables and moments")]
    count, known, epoch = 0, 0.0, 0.0
    for one in estimates:
        if one.run is None and one.epoch is None:
            time = "a fit without epochs"
        elif one.run is None:
            time = f"{worded(one.epoch)} an epoch, at most {one.epochs}"
            epoch += one.epoch * one.runs
        else:
            time = f"{worded(one.run)} a run"
            known += one.run * one.runs
        lines.append((one.recipe, str(one.runs), time, f"{one.mib:,}"))
        count += one.runs
    _table(lines)
    said = [f"about {worded(known)} by rows of other seeds"] * (known > 0)
    said += [f"{worded(epoch)} for one epoch of each{' other' if known else ''}, measured now"] * (epoch > 0)
    print("; ".join([f"{count} runs", *(said and ["one process", *said])]))


def show_studies(studies: Sequence[Study]) -> None:
    """Trials and choice of each study."""
    from .trials import best_of

    heads = ("recipe", "trials", "done", "pruned", "dead", "failed", "own setting", "chosen", "training")
    lines, budgets = [heads], set()
    for study in studies:
        trials = [trial for trial in study.read() if trial.state != "running"]
        counts = [sum(t.state == s for t in trials) for s in ("done", "pruned", "dead", "failed")]
        own, best = best_of(trials[:1]), best_of(trials)
        values = ["-" if t is None else f"{study.metric(t.value):.6f}" for t in (own, best)]
        seconds = worded(sum(trial.seconds for trial in trials))
        lines.append((study.recipe, str(len(trials)), *map(str, counts), *values, seconds))
        timed = study.budget.timed(trials)
        budgets.add((timed, 0 if timed else len(trials)))
    _table(lines)
    if len(budgets) > 1:
        print("! budgets differ: only settings chosen with equal budgets are ranked together")


def worded(seconds: float) -> str:
    """ "1 h 20 min", "3 min" or "40 s"."""
    if seconds >= 3600:
        return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"
    return f"{int(seconds // 60)} min" if seconds >= 60 else f"{seconds:.0f} s"


def _table(lines: list[tuple[str, ...]]) -> None:
    """Columns of equal width, the first to the left."""
    widths = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    for line in lines:
        rest = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        print("  " + "  ".join((line[0].ljust(widths[0]), *rest)))


def show_run(folder: Path) -> None:
    """Metrics, conditions and the files of a run."""
    from .runs import read_row

    row = read_row(folder)
    show_row(row, folder)
    _slices(row)
    print(
        f"  data {row.data_digest[:16]}  settings {row.config_digest[:16]}  commit {row.git or 'none'}\n"
        f"  torch {row.torch}, {row.device}, {row.threads} threads, {row.cpu_capability}, {row.when}"
    )
    for path in sorted(folder.glob("*.svg")):
        print(f"  picture: {path}")


def _slices(row: Row) -> None:
    """The metrics of slices, a line a slice."""
    found: dict[str, dict[str, float]] = {}
    for name, value in row.metrics.items():
        metric, bar, part = name.partition("|")
        if bar:
            found.setdefault(part, {})[metric.removeprefix("test.")] = value
    if found:
        heads = list(next(iter(found.values())))
        lines = [("slice", *heads)]
        for part, values in found.items():
            cells = (f"{values[m]:,.0f}" if m == "users" else f"{values[m]:.6f}" for m in heads)
            lines.append((part, *cells))
        _table(lines)


def draw_attention(folder: Path, data_folder: Path | None, rows: int) -> str:
    """Mean attention maps of a run over test rows as attention.svg; returns what to tell the user."""
    from .batch import Inputs
    from .board.heatmap import heatmaps
    from .files import write_whole
    from .launch import data_of
    from .predictor import load
    from .runs import check_same_encoding

    predictor = load(folder)
    data = data_of(folder, str(data_folder) if data_folder else "")
    check_same_encoding(predictor.config, predictor.schema, data)
    split = data.split("test")
    total: Any = 0
    count = min(rows, len(split))
    for start in range(0, count, 1024):
        x: Inputs = split.inputs(slice(start, min(start + 1024, count)))
        maps = predictor.model.explain(x)
        if "attention" not in maps:
            raise InputError(f"{predictor.model.name} has no attention to draw; autoint has")
        total = total + maps["attention"].double().sum(1)  # [layers, H, F, F]
    mean = total / count
    names = [c.name for c in predictor.schema.columns]
    path = folder / "attention.svg"
    title = (
        f"{predictor.config['name']} on {predictor.schema.dataset}: mean attention over {count:,} test rows"
    )
    write_whole(path, heatmaps(mean.mean(1).tolist(), names, title))
    first = mean[0].mean(0)
    pairs = sorted(
        (
            (float(first[i, j] + first[j, i]) / 2, names[i], names[j])
            for i in range(len(names))
            for j in range(i)
        ),
        reverse=True,
    )[:5]
    top = "\n".join(f"  {weight:.4f}  {a} - {b}" for weight, a, b in pairs)
    return f"strongest pairs of layer 1 (mean of both directions over heads)\n{top}\nwrote {path}"
