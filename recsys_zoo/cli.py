"""The command line. Every command imports what it needs itself, so that --help stays quick."""

from __future__ import annotations

import errno
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .cli_board import Set, board_app
from .cli_rank import index, recommend
from .cli_tune import tune
from .errors import InputError

app = typer.Typer(
    name="recsys-zoo",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    help="Recommendation models that share one embedding layer, one trainer and one evaluation.",
)
app.add_typer(board_app, name="board")


def main() -> None:
    """Entry point: bad input becomes one sentence on stderr and exit code 2."""
    try:
        app()
    except InputError as error:
        sys.exit(_complain(str(error)))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.exit(_complain(f"{error.filename or 'output'}: {error.strerror}; free some space and try again"))


def _complain(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 2


@app.command("list")
def list_command(
    pattern: Annotated[str, typer.Argument(help="wildcard, for example '*fm*'")] = "*",
    family: Annotated[str, typer.Option(help="only this family, for example ctr")] = "",
) -> None:
    """Models with paper, year and family."""
    from .errors import unknown_name
    from .zoo import list_models, model_class

    names = list_models(pattern, family)
    if not names:
        families = {model_class(name).card.family for name in list_models()}
        if family and family not in families:
            raise unknown_name("family", family, families)
        raise unknown_name("model", pattern, list_models(family=family))
    cards = {name: model_class(name).card for name in names}
    width, of_family = max(map(len, names)), max(len(card.family) for card in cards.values())
    for name, card in cards.items():
        print(f"{name:<{width}}  {card.year}  {card.family:<{of_family}}  {card.title} ({card.authors})")


@app.command()
def show(
    target: Annotated[str, typer.Argument(help="model name or run folder")],
    explain: Annotated[bool, typer.Option("--explain", help="draw what a run attends to")] = False,
    data: Annotated[str, typer.Option(help="prepared folder for --explain; default: the run's own")] = "",
    rows: Annotated[int, typer.Option(help="test rows that --explain averages over")] = 4096,
) -> None:
    """A model's card and settings, or a run's metrics and pictures."""
    from . import display

    if Path(target).is_dir():
        display.show_run(Path(target))
        if explain:
            print(display.draw_attention(Path(target), Path(data) if data else None, rows))
    elif explain:
        raise InputError(f"--explain needs a run folder, and {target!r} is none")
    else:
        display.show_model(target)


@app.command()
def prepare(
    files: Annotated[list[Path], typer.Argument(help="CSV, TSV or Parquet files")] = [],  # noqa: B006
    schema: Annotated[Path | None, typer.Option(help="schema file (TOML)")] = None,
    out: Annotated[Path | None, typer.Option(help="prepared folder to write")] = None,
    infer: Annotated[bool, typer.Option("--infer", help="draft a schema file and print it")] = False,
    table: Annotated[
        list[Path], typer.Option(help="side table (users, items) to draft into the schema file; with --infer")
    ] = [],  # noqa: B006
    interactions: Annotated[
        bool, typer.Option("--interactions", help="with --infer: draft rankings of items, not probabilities")
    ] = False,
    split: Annotated[
        list[str], typer.Option(help="given splits: --split valid=v.csv --split test=t.csv")
    ] = [],  # noqa: B006
    vectors: Annotated[
        list[str],
        typer.Option(
            help="pretrained vectors of a column's values, COLUMN=FILE[:KEYS:VECTORS]: an HDF5 or .npz file "
            "with data sets of keys [N] and vectors [N, D], named key and value where nothing is said"
        ),
    ] = [],  # noqa: B006
    append: Annotated[Path | None, typer.Option(help="prepared folder to add the --split files to")] = None,
    grow: Annotated[
        bool, typer.Option("--grow", help="with --append: ids for new values of training rows")
    ] = False,
    allow_repeat: Annotated[
        bool, typer.Option("--allow-repeat", help="with --append: take files that the folder holds already")
    ] = False,
) -> None:
    """Own data -> prepared folder; --infer drafts the schema file to edit.

    With given splits, FILES are the training files and each --split names another split's file.
    --append DIR adds new files to the splits of a prepared folder: --split train=day8.csv; ids never change.
    """
    if append is not None:
        _append(append, files, split, grow, allow_repeat, schema, infer or bool(out or table or vectors))
        return
    for word, given, partner in (
        ("--grow", grow, "--append DIR"),
        ("--allow-repeat", allow_repeat, "--append DIR"),
        ("--table", table and not infer, "--infer"),
        ("--interactions", interactions and not infer, "--infer"),
        ("--vectors", vectors and infer, "--out DIR"),
    ):
        if given:
            raise InputError(f"{word} belongs to {partner}; give both, or leave it out")
    if infer:
        from .data.infer import infer_spec

        text = infer_spec(list(files), table, schema.parent if schema else Path(), interactions)
        if schema is None:
            print(text, end="")
            return
        from .files import write_whole

        if schema.exists():
            raise InputError(f"{schema}: exists already; choose another --schema for the draft")
        write_whole(schema, text)
        words = shlex.join(["recsys-zoo", "prepare", *map(str, files), "--schema", str(schema)])
        print(f"wrote {schema}; edit it, then: {words} --out DIR")
        return
    if schema is None or out is None:
        raise InputError("prepare needs --schema FILE and --out DIR (or --infer to draft the schema file)")
    from . import display
    from .data.arrays import named_vectors
    from .data.describe import describe
    from .data.prepare import prepare as prepare_files
    from .data.spec import DataSpec

    spec = DataSpec.load(schema)
    with named_vectors(vectors, out) as found:
        data = prepare_files(
            list(files),
            spec,
            out,
            split_files=_split_files(split) or None,
            tables_from=schema.parent,
            progress=display.preparing(),
            vectors=found,
        )
    print(describe(data))


def _append(
    folder: Path,
    files: list[Path],
    split: list[str],
    grow: bool,
    allow_repeat: bool,
    schema: Path | None,
    more: bool,
) -> None:
    if files or more:
        what = f"{files[0]}: say" if files else "--append takes no --infer, --out, --table or --vectors; say"
        raise InputError(f"{what} which split new rows go to, for example --split train=day8.csv")
    from . import display
    from .data.append import append
    from .data.describe import describe
    from .data.spec import DataSpec

    done = append(
        folder,
        _split_files(split),
        grow=grow,
        allow_repeat=allow_repeat,
        spec=DataSpec.load(schema) if schema else None,
        tables_from=schema.parent if schema else Path(),
        progress=display.preparing(),
    )
    print(describe(done))


def _split_files(entries: list[str]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for entry in entries:
        name, equals, path = entry.partition("=")
        if not equals:
            raise InputError(f"--split {entry}: write it as NAME=FILE, for example --split test=test.csv")
        found.setdefault(name, []).append(Path(path))
    return found


@app.command()
def audit(
    data: Annotated[str, typer.Argument(help="prepared folder, or the name of a data recipe")],
    label: Annotated[str, typer.Option(help="which label, where there are several")] = "",
    time: Annotated[str, typer.Option(help="numeric column that orders the rows")] = "",
    raw: Annotated[Path | None, typer.Option(help="raw files of the data recipe")] = None,
    out: Annotated[Path | None, typer.Option(help="JSON file; default: audit.json in the folder")] = None,
) -> None:
    """What to check before a data set is believed: shared rows, ties, leaks, unknown ids, floors."""
    from . import audit as auditing
    from . import display, launch

    prepared = launch.open_data(data, raw)
    record = auditing.audit(prepared, label, time)
    path = out or Path(prepared.folder, "audit.json")
    auditing.save(record, path)
    display.show_audit(record)
    print(f"wrote {path}")


@app.command("import")
def import_command(
    configs: Annotated[
        list[Path], typer.Argument(help="FuxiCTR's configuration folder, or RecBole's YAML files")
    ],
    out: Annotated[Path, typer.Option(help="recipe to write (.toml)")],
    schema: Annotated[
        Path | None, typer.Option(help="schema file to write, where columns are listed")
    ] = None,
    experiment: Annotated[str, typer.Option(help="FuxiCTR: experiment in model_config.yaml")] = "",
    model: Annotated[str, typer.Option(help="RecBole: model, where no file names it")] = "",
    dataset: Annotated[str, typer.Option(help="RecBole: data set, where no file names it")] = "",
    data: Annotated[
        Path | None,
        typer.Option(help="folder of RecBole's atomic files, or of FuxiCTR's feature_map.json"),
    ] = None,
) -> None:
    """FuxiCTR's or RecBole's configuration -> recipe and schema file; every difference in meaning is said."""
    from .importers.fuxictr import import_fuxictr
    from .importers.imported import write_imported
    from .importers.recbole import import_recbole

    if configs[0].is_dir():
        if not experiment or len(configs) > 1 or model or dataset:
            raise InputError(f"{configs[0]}: a FuxiCTR folder goes alone, with --experiment NAME")
        found = import_fuxictr(configs[0], experiment, data)
    elif experiment:
        raise InputError(f"--experiment needs a FuxiCTR folder, and {configs[0]} is none")
    else:
        found = import_recbole(configs, model, dataset, data)
    for line in write_imported(found, out, schema):
        print(line)


@app.command()
def train(
    target: Annotated[
        str, typer.Argument(help="recipe (frappe_x1/autoint or a .toml file) or model name")
    ] = "",
    data: Annotated[str, typer.Argument(help="prepared folder, or the name of a data recipe")] = "",
    set_: Set = [],  # noqa: B006
    seed: Annotated[int | None, typer.Option(help="train.seed")] = None,
    out: Annotated[Path | None, typer.Option(help="run folder; default: one below runs/")] = None,
    raw: Annotated[Path | None, typer.Option(help="raw files of the data recipe")] = None,
    resume: Annotated[Path | None, typer.Option(help="go on with this interrupted run")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or auto")] = "",
) -> None:
    """Train one model to a checkpoint, test scores and a row."""
    from . import display, launch

    if resume is not None:
        if target or set_ or seed is not None or out or raw or device:
            raise InputError("--resume takes the settings of the run itself; give nothing else")
        row = launch.resume(resume)
        display.show_row(row, resume)
        return
    if not target:
        raise InputError("train needs a recipe or a model name; `recsys-zoo list` shows the models")
    cfg = launch.configure(target, data, set_, seed, device)
    folder = out or launch.default_folder(cfg)
    row = launch.run(cfg, folder, raw)
    display.show_row(row, folder)


app.command()(tune)


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="run or checkpoint folder")],
    data: Annotated[str, typer.Option(help="prepared folder; default: the run's own")] = "",
    split: Annotated[str, typer.Option(help="split to score")] = "test",
) -> None:
    """Metrics of a trained model on a split."""
    from . import launch, runs

    for key, value in runs.evaluate(run, launch.data_of(run, data), split).items():
        print(f"{split}.{key}  {value:.6f}")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="run or checkpoint folder")],
    file: Annotated[Path, typer.Argument(help="CSV, TSV or Parquet with the raw columns")],
    out: Annotated[Path, typer.Option(help="predictions to write (.csv or .parquet)")],
    batch_size: Annotated[int, typer.Option(min=1, help="rows a forward pass")] = 16384,
) -> None:
    """Click probabilities of raw rows, in their order; by deepcml, of pairs of user and item."""
    from . import launch

    print(f"wrote {launch.predict_file(run, file, out, batch_size):,} rows to {out}")


app.command()(recommend)
app.command()(index)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="folder for data, runs, rows and the page")] = Path("runs/demo"),
    rows: Annotated[int, typer.Option(help="rows of the planted problem")] = 0,
) -> None:
    """The main job on a planted problem: prepare, train five models, rank them, write a page."""
    from .demo import run_demo

    run_demo(out, rows)
