"""`recsys-zoo recommend` and `recsys-zoo index`. They import what they need themselves, so that --help stays
quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from .ranker import Ranker

Run = Annotated[Path, typer.Argument(help="run or checkpoint folder of a model that ranks")]


def recommend(
    run: Run,
    users: Annotated[
        Path | None,
        typer.Option(help="CSV, TSV or Parquet with the column of users; default: all of train and valid"),
    ] = None,
    user: Annotated[list[str], typer.Option(help="id of a user; may be given again")] = [],  # noqa: B006
    like: Annotated[
        list[str], typer.Option(help="id of an item: what is most like it, in place of what users want")
    ] = [],  # noqa: B006
    k: Annotated[int | None, typer.Option("-k", "--k", help="items in a list; default: 20, or all")] = None,
    out: Annotated[Path | None, typer.Option(help=".csv or .parquet; default: CSV to the terminal")] = None,
    with_seen: Annotated[bool, typer.Option("--with-seen", help="seen items may be in the lists")] = False,
    unknown: Annotated[
        Literal["refuse", "popular"], typer.Option(help="what users get of whom nothing was learnt")
    ] = "refuse",
    index: Annotated[Path | None, typer.Option(help="search this index of the run")] = None,
) -> None:
    """The k best items for users, best first: user, rank, item, score.

    Items that a user had in train and valid are left out.
    """
    from .data.outfile import check_name, write_frames
    from .ranker import load_ranker

    if (users is not None) + bool(user) + bool(like) > 1:
        raise InputError("--users, --user and --like each say whom the lists are for; give one of them")
    if like and (with_seen or unknown != "refuse" or index is not None):
        raise InputError("--with-seen, --unknown and --index belong to lists for users; leave them out, "
                         "or --like")
    if out is not None:
        check_name(out)
    ranker = load_ranker(run, index)
    k = _default(ranker) if k is None else k
    if like:
        asked, frames = len(like), _similar(ranker, like, k)
    else:
        ids = _read_users(ranker, users) if users else ranker.texts("user", user) if user else ranker.users()
        asked, frames = len(ids), ranker.frames(ids, k, with_seen, unknown)
    rows = _print(frames) if out is None else write_frames(out, frames)
    if out is not None:
        print(f"wrote {rows:,} rows to {out}: {asked:,} lists of {k} items")
    if rows < asked * k:
        why = "too few items are left"
        why += "" if ranker.exact else ", or the index finds too few of them: give it more probes"
        print(f"{asked * k - rows:,} of {asked * k:,} places in the lists are empty; {why}", file=sys.stderr)


def index(
    run: Run,
    out: Annotated[Path, typer.Option(help="folder of the index")],
    kind: Annotated[
        Literal["torch", "flat", "ivf"],
        typer.Option(help="torch: exact; flat: exact, by faiss; ivf: by faiss, in some lists of items"),
    ] = "torch",
    lists: Annotated[
        int, typer.Option(min=0, help="ivf: how many lists; default: root of the number of items")
    ] = 0,
    probes: Annotated[
        int, typer.Option(min=0, help="ivf: how many lists are searched; default: a tenth of them")
    ] = 0,
    k: Annotated[
        int | None,
        typer.Option("-k", "--k", help="items in the lists that it is measured on; default: 20, or all"),
    ] = None,
) -> None:
    """Index the vectors of a run's items for `recommend --index`, and measure it beside exact search."""
    from .ranker import load_ranker

    ranker = load_ranker(run)
    k = _default(ranker) if k is None else k
    worth = ranker.index(out, kind, lists, probes, k)
    print(f"wrote {out}")
    print(f"recall of the exact top {k}  {worth.recall:.4f}  ({worth.users:,} users, seed {worth.seed})")
    print(f"users a second  {worth.users_per_s:,.0f}, exact {worth.exact_users_per_s:,.0f}  "
          f"({worth.users_per_s / worth.exact_users_per_s:.2f} times; {worth.threads} threads)")  # fmt: skip


def _default(ranker: Ranker) -> int:
    """Items in a list where nothing is said: 20, or all of a smaller catalogue."""
    return min(20, ranker.model.num_items)


def _read_users(ranker: Ranker, path: Path) -> pl.Series:
    import numpy as np

    from .data.assign import needed_text
    from .data.read import column_names, read_frame
    from .data.values import Chunk

    spec = ranker.encoder.spec
    column, read = spec.raw_id("user"), spec.read
    if read.header and column in column_names(path, read.model_copy(update={"header": ()})):
        read = read.model_copy(update={"header": ()})  # unlike the data, it begins with a line of names
    frame = read_frame(path, read, [column])
    return needed_text(Chunk(frame, str(path), np.arange(1, len(frame) + 1)), column, "recommend something")


def _similar(ranker: Ranker, like: list[str], k: int) -> Iterator[pl.DataFrame]:
    import numpy as np
    import polars as pl

    for name, found, score in zip(like, *ranker.similar(like, k), strict=True):
        kept = int(np.isfinite(score).sum())
        yield pl.DataFrame({"like": [name] * kept, "rank": np.arange(1, kept + 1, dtype=np.int32),
                            "item": found[:kept].tolist(), "score": score[:kept]})  # fmt: skip


def _print(frames: Iterator[pl.DataFrame]) -> int:
    """To standard output, as far as somebody reads it."""
    rows = 0
    try:
        for number, frame in enumerate(frames):
            print(frame.write_csv(include_header=number == 0), end="")
            rows += frame.height
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains at its end
        raise SystemExit(0) from None
    return rows
