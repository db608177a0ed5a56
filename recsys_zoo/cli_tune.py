"""`recsys-zoo tune`. It imports what it needs itself, so that --help stays quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .cli_board import Set


def tune(
    targets: Annotated[
        list[str],
        typer.Argument(
            help="recipes (frappe_x1/autoint, 'frappe_x1/*'), suite files (.toml), or models with --data"
        ),
    ],
    data: Annotated[str, typer.Option(help="prepared folder or data recipe, for a model's name")] = "",
    trials: Annotated[int | None, typer.Option(min=1, help="budget of each study; default: 16")] = None,
    minutes: Annotated[
        float, typer.Option(min=0, help="budget of each study in minutes of training, even amid a trial; "
                            "without --trials a trial has an eighth, and the best goes on in the second half")
    ] = 0.0,
    sampler: Annotated[
        Literal["tpe", "random"], typer.Option(help="tpe learns from trials; random is the neutral baseline")
    ] = "tpe",
    pruner: Annotated[
        Literal["median", "none"], typer.Option(help="median: end trials below the median of those before")
    ] = "median",
    set_: Set = [],  # noqa: B006
    space: Annotated[
        Path | None, typer.Option(help="ranges to change or add (TOML): train.lr = {low = 1e-4, high = 1e-2}")
    ] = None,
    only: Annotated[str, typer.Option(help="tune these alone: model.dropout,train.lr")] = "",
    seed: Annotated[int, typer.Option(min=0, help="of the sampler and of every trial")] = 1,
    out: Annotated[Path, typer.Option(help="parent of the study folders")] = Path("tuning"),
    raw: Annotated[Path | None, typer.Option(help="raw files of the data recipe")] = None,
    join: Annotated[bool, typer.Option("--join", help="help with studies of other processes")] = False,
    curve: Annotated[
        Path | None, typer.Option(help="picture to write (.svg): valid metric against trials")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be tuned")] = False,
) -> None:
    """Choose settings on the validation split, by an equal budget for each recipe; test is never scored.

    The ranges are those that the settings declare (--dry-run shows them). What --set fixes is not tuned. The
    first trial is the recipe itself. An interrupted study goes on when the command is given again. Each study
    ends with a recipe, which `board run` takes.
    """
    from . import display, tuning
    from .board.budget import picture
    from .errors import InputError
    from .files import write_whole
    from .launch import open_data
    from .space import space_of

    if curve is not None and curve.suffix != ".svg":
        raise InputError(f"--curve {curve}: the name must end in .svg")
    tasks = tuning.plan(targets, data, set_, seed)
    names = [name.strip() for name in only.split(",") if name.strip()]
    spaces = [space_of(task.cfg, tuning.fixed_by(task), names, space) for task in tasks]
    if dry_run:
        for task, found in zip(tasks, spaces, strict=True):
            print(f"{task.recipe}: {len(found.tuned)} settings\n{found.tree()}\n")
        return
    budget = trials or (None if minutes else tuning.BUDGET)
    opened = {name: open_data(name, raw) for name in dict.fromkeys(task.cfg.data for task in tasks)}
    studies = [
        tuning.Study(task.recipe, found, opened[task.cfg.data], tuning.folder_of(task, out), budget, minutes,
                     sampler, pruner, join)
        for task, found in zip(tasks, spaces, strict=True)
    ]  # fmt: skip
    try:
        left = tuning.run(studies)
    except KeyboardInterrupt:
        print("stopped; the same command goes on")
        raise SystemExit(130) from None
    for study in left:
        print(f"{study.recipe}: another process is at it; --join helps")
    display.show_studies(studies)
    if curve is not None:
        boards = ", ".join(dict.fromkeys(task.cfg.board for task in tasks))
        write_whole(curve, picture([study.curve() for study in studies], f"{boards}: best of n trials"))
        print(f"wrote {curve}")
    nothing = [study for study in tuning.not_chosen(studies) if study not in left]
    if nothing:
        files = ", ".join(str(study.file) for study in nothing)
        raise InputError(f"{files}: no trial is done, so nothing was chosen; the reasons stand there")
    if not left:
        for board in dict.fromkeys(study.folder.parent for study in studies):
            print(f"next: recsys-zoo board run {tuning.write_suite(board, seed)}")
