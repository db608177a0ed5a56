"""`recsys-zoo board ...`. Every command imports what it needs itself, so that --help stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .errors import InputError

board_app = typer.Typer(no_args_is_help=True, help="Run, rank, compare and reproduce rows; the HTML page.")

Set = Annotated[
    list[str], typer.Option("--set", help="override a setting: --set model.layers=3, --set train.lr=1e-3")
]
Rows = Annotated[list[Path], typer.Argument(help="files of rows (.jsonl)")]
Metric = Annotated[
    str, typer.Option(help="ranked by this; default: test.auc, or test.recall@20 of rankings")
]
Scores = Annotated[
    Path, typer.Option(help="parent of run folders; their test scores serve where no draws are kept")
]


@board_app.command("run")
def board_run(
    recipes: Annotated[
        list[str], typer.Argument(help="recipes (frappe_x1/autoint, 'frappe_x1/*') and suite files (.toml)")
    ],
    seeds: Annotated[str, typer.Option(help="seeds; default: 1,2,3,4,5 or those of the suite")] = "",
    rows: Annotated[Path | None, typer.Option(help="file the rows are added to")] = None,
    raw: Annotated[Path | None, typer.Option(help="raw files of the data recipe")] = None,
    set_: Set = [],  # noqa: B006
    out: Annotated[Path, typer.Option(help="parent of the run folders")] = Path("runs"),
    retry: Annotated[bool, typer.Option("--retry-failed", help="make failed runs again")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be run")] = False,
) -> None:
    """Train recipes over seeds and add one row each; runs that are done are not repeated, models in which
    nothing is drawn (EASE, ItemKNN ...) not run with a second seed.

    Several processes may work on the same file of rows. Floors (rows that need no learning) and an audit of
    the data come with them. Exit code 1 when a run failed.
    """
    from . import display, suite

    try:
        numbers = [int(s) for s in seeds.split(",")] if seeds else []
    except ValueError:
        raise InputError(f"--seeds {seeds}: write whole numbers with commas, for example 1,2,3") from None
    runner = suite.Runner(suite.plan(recipes, numbers, set_), rows, raw, out, retry)
    if dry_run:
        display.show_estimate(runner.estimate())
    else:
        runner.run()
        if failed := runner.failed():
            print(f"{len(failed)} of {len(runner.tasks)} runs failed, {failed[0].name} first; their rows say "
                  "why (--retry-failed makes them again)")
            raise typer.Exit(1)


@board_app.command("show")
def board_show(
    rows: Rows,
    metric: Metric = "",
    scores: Scores = Path("runs"),
) -> None:
    """Rank the rows: mean and deviation over seeds, published numbers beside them."""
    from . import launch

    launch.show_board(rows, metric, scores)


@board_app.command("page")
def board_page(
    rows: Rows,
    out: Annotated[Path, typer.Option(help="HTML file to write")],
    metric: Metric = "",
    scores: Scores = Path("runs"),
) -> None:
    """One HTML file with the ranking, its intervals and its conditions."""
    from . import launch

    launch.write_board_page(rows, out, metric, scores)
    print(f"wrote {out}")


@board_app.command("draws")
def board_draws(rows: Rows, scores: Scores = Path("runs")) -> None:
    """Keep the resampled test metrics of the rows in draws/ beside them: ties outlive the test scores."""
    from . import launch

    made, missing = launch.keep_draws(rows, scores)
    print(f"kept {made} more; of {missing} rows neither draws nor test scores are at hand")


@board_app.command("compare")
def board_compare(
    entries: Annotated[list[str], typer.Argument(help="entries of a board; the first against the others")],
    rows: Annotated[list[Path], typer.Option(help="files of rows (.jsonl)")],
    scores: Scores = Path("runs"),
    latex: Annotated[bool, typer.Option("--latex", help="a table for a paper")] = False,
) -> None:
    """Paired effects with interval and Holm's p-values, cost and BibTeX, from kept test scores."""
    from . import launch

    print(launch.compare(entries, rows, scores, latex), end="")


@board_app.command("reproduce")
def board_reproduce(
    row: Annotated[
        str, typer.Argument(help="FILE.jsonl:NUMBER, FILE.jsonl with --entry and --seed, or a run folder")
    ],
    entry: Annotated[str, typer.Option(help="label of the row's model")] = "",
    seed: Annotated[int | None, typer.Option(help="seed of the row")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh-seed", help="another seed, judged by the spread of seeds")
    ] = False,
    rows: Annotated[list[Path], typer.Option(help="more rows of the board, to judge by")] = [],  # noqa: B006
    data: Annotated[str, typer.Option(help="prepared folder; default: the row's own")] = "",
    raw: Annotated[Path | None, typer.Option(help="raw files of the data recipe")] = None,
    out: Annotated[Path, typer.Option(help="parent of the new run folder")] = Path("runs/reproduced"),
) -> None:
    """Run a row again from its own record; exit code 1 when it does not come out the same."""
    from . import reproduce
    from .board.rows import read_rows

    found, board = reproduce.find_row(row, entry, seed)
    board = [*board, *(more for file in rows for more in read_rows(file))]
    done = reproduce.reproduce(found, board, out, fresh=fresh, data=data, raw=raw)
    for line in done.lines():
        print(line)
    if not done.good:
        raise typer.Exit(1)


@board_app.command("skill")
def board_skill(rows: Rows, metric: Metric = "", scores: Scores = Path("runs")) -> None:
    """One skill a model over five boards or more, each counted once."""
    from . import launch

    launch.show_skill(rows, metric, scores)


@board_app.command("check")
def board_check(rows: Rows) -> None:
    """Hold rows against themselves and each other before they are shown; exit code 1 for a problem."""
    from .check import check_file

    problems = [problem for file in rows for problem in check_file(file)]
    for problem in problems:
        print(problem)
    if problems:
        raise typer.Exit(1)
    print("no problems found; `recsys-zoo board reproduce` runs a row again")
