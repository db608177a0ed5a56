"""python -m data_prep NAME --raw DIR --out DIR"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from recsys_zoo.errors import InputError

from .known import RECIPES, run


def main(arguments: list[str] | None = None) -> int:
    """Prepare or list; returns the exit code: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(prog="python -m data_prep", description="Prepare a public data set.")
    parser.add_argument("name", nargs="?", help="name of the data set, see --list")
    parser.add_argument("--raw", type=Path, help="folder with the raw files; without it they are downloaded")
    parser.add_argument("--out", type=Path, help="prepared folder to write (default: prepared/NAME)")
    parser.add_argument("--downloads", type=Path, help="folder for downloads (default: beside --out)")
    parser.add_argument("--list", action="store_true", help="show the data sets, their terms and raw files")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n\n".join(describe(name) for name in RECIPES))
        return 0
    if not given.name:
        parser.error("name a data set, or use --list")
    out = given.out or Path(os.environ.get("RECSYS_ZOO_PREPARED", "prepared")) / given.name
    try:
        run(given.name, raw=given.raw, out=out, downloads=given.downloads)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; a download goes on when the same command is given again", file=sys.stderr)
        return 130
    return 0


def describe(name: str) -> str:
    """A recipe for the terminal."""
    recipe = RECIPES[name]
    lines = [f"{name}: {recipe.title}", f"  terms: {recipe.terms}", f"  by hand: {recipe.by_hand}"]
    for source in recipe.sources:
        said = f"md5 {source.md5}, {source.checksum_from}" if source.md5 else "no checksum published here"
        lines.append(f"  download: {source.url} ({said})")
    rows = " / ".join(f"{name} {count:,}" for name, count in recipe.expected.rows.items())
    size = f"; table size {recipe.expected.table_size:,}" if recipe.expected.table_size else ""
    return "\n".join([*lines, f"  rows: {rows}{size}"])


if __name__ == "__main__":
    sys.exit(main())
