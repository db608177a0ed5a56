"""What a recipe is, and how one is run: raw files, preparation, then a check against the known counts."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.spec import DataSpec, SplitSpec
from recsys_zoo.errors import InputError
from recsys_zoo.files import disk_errors, whole_folder

if TYPE_CHECKING:
    import polars as pl

    from recsys_zoo.data.store import Prepared
    from recsys_zoo.data.vectors import Vectors

Say = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """An archive that can be fetched without a login."""

    url: str
    file: str  # name of the archive on disk
    members: tuple[str, ...]  # what is taken out of it
    md5: str = ""  # empty: none was published where it could be checked
    checksum_from: str = ""  # where the checksum stands


@dataclass(frozen=True)
class Expected:
    """What a prepared data set must count; other numbers mean other data.

    rows and positives: by split, or together for splits joined by + (train+valid). A number that nobody has
    published is left out.
    """

    rows: dict[str, int]
    positives: dict[str, int]
    table_size: int = 0  # 0: not known
    vectors: dict[str, int] = field(default_factory=dict)  # pretrained ones, by column


@dataclass(frozen=True)
class Raw:
    """The files of one preparation: `files` to be split by the spec, or `splits` as they were given."""

    files: tuple[Path, ...] = ()
    splits: dict[str, Path] = field(default_factory=dict)
    note: str = ""  # goes with every number from these files
    vectors: dict[str, Vectors] = field(default_factory=dict)  # pretrained ones, by column
    tables_from: Path = Path(".")  # where the files of the spec's side tables are
    same_rows: bool = True  # False: another split than the published one, whose vocabularies are not known


@dataclass(frozen=True)
class Recipe:
    """One public data set."""

    name: str
    title: str
    terms: str
    by_hand: str  # where the raw files are to be had, and which
    sources: tuple[Source, ...]  # fetched when no --raw is given; none: by hand only
    spec: DataSpec
    expected: Expected
    gather: Callable[[Path, Path, Say], Raw]  # raw folder, folder for scratch files, where remarks go


def held_out_users(salt: str) -> SplitSpec:
    """A tenth of the users held out for valid and one for test, by a hash; four fifths of their items, in the
    order of another, are given."""
    return SplitSpec(method="users", user="user", random=True, keys=("user", "item"), salt=salt,
                     fractions={"train": 0.8, "valid": 0.1, "test": 0.1}, given=0.8)


def run_recipe(recipe: Recipe, raw: Path | None, out: Path, downloads: Path | None = None,
               say: Say = print) -> Prepared:
    """Prepare a public data set in `out` from the folder `raw`, or from a download when `raw` is None.

    The folder appears only after its counts were found to be the expected ones; InputError otherwise.
    """
    from recsys_zoo.data.prepare import prepare
    from recsys_zoo.data.store import Prepared
    out = Path(out)
    _refuse_foreign(out)
    say(f"{recipe.title}\nterms: {recipe.terms}")
    if raw is None:
        raw = _fetch(recipe, downloads or out.parent / "downloads", say)
    if not Path(raw).is_dir():
        raise InputError(f"--raw {raw}: no such folder; {recipe.by_hand}")
    with disk_errors(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = tempfile.TemporaryDirectory(prefix=f".{out.name}.raw.", dir=out.parent)
    with scratch, whole_folder(out) as building:
        found = recipe.gather(Path(raw), Path(scratch.name), say)
        spec = recipe.spec.model_copy(update={"note": found.note})
        splits = {name: [path] for name, path in found.splits.items()}
        data = prepare(list(found.files), spec, building, split_files=splits or None,
                       tables_from=found.tables_from, vectors=found.vectors)
        check(data, recipe, found.same_rows)
    data = Prepared.open(out)
    say("\n".join(summary(data)))
    return data


def check(data: Prepared, recipe: Recipe, same_rows: bool = True) -> None:
    """InputError when rows, positives or (of the published split) table size are not the expected ones."""
    expected, vectors = recipe.expected, data.record.get("vectors", {})
    facts = [(f"rows of {names}", count, sum(len(data.split(name)) for name in _present(data, names)))
             for names, count in expected.rows.items()]
    facts += [(f"positives of {names}", count, sum(positives(data, name) for name in _present(data, names)))
              for names, count in expected.positives.items()]
    facts += [(f"vectors of {column}", count, vectors[column]["keys"] if column in vectors else 0)
              for column, count in expected.vectors.items()]
    if same_rows and expected.table_size:
        facts.append(("table size", expected.table_size, data.schema.table_size))
    wrong = [f"{what} {found:,} instead of {count:,}" for what, count, found in facts if found != count]
    if wrong:
        raise InputError(f"{recipe.name}: these are not the published data: {', '.join(wrong)}; "
                         f"{recipe.by_hand}")


def _present(data: Prepared, names: str) -> list[str]:
    return [name for name in names.split("+") if name in data.names]


def positives(data: Prepared, name: str) -> int:
    """Rows of a split with label 1."""
    return int(data.split(name).labels.sum(dtype="float64"))


def summary(data: Prepared) -> list[str]:
    """Lines for the terminal: counts, and the note that belongs beside every number."""
    lines = [f"{name}: {len(data.split(name)):,} rows" for name in data.names]
    if data.schema.labels:
        lines = [f"{line}, {positives(data, name):,} positive"
                 for line, name in zip(lines, data.names, strict=True)]
    lines.append(f"table size {data.schema.table_size:,} (values and one unknown row a column); "
                 f"digest {data.data_digest[:16]}; in {data.folder}")
    note = data.record["spec"]["note"]
    return [*lines, f"note: {note}"] if note else lines


def read_table(path: Path, columns: Sequence[str]) -> pl.DataFrame:
    """These columns of a file as text; InputError for a missing column and a damaged file."""
    import polars as pl

    from recsys_zoo.data.read import read_chunks
    from recsys_zoo.data.spec import ReadSpec
    chunks = read_chunks(path, columns, ReadSpec(), batch_rows=1 << 18)
    return pl.concat([chunk.frame.select(pl.all().cast(pl.String)) for chunk in chunks])


def _refuse_foreign(out: Path) -> None:
    empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not empty and not (out / "prepared.json").is_file():
        raise InputError(f"{out}: exists and is not a prepared folder; choose another --out")


def _fetch(recipe: Recipe, folder: Path, say: Say) -> Path:
    from .download import download, terminal_progress, unpack
    if not recipe.sources:
        raise InputError(f"{recipe.name} has no direct download; {recipe.by_hand}, then use --raw DIR")
    raw = folder / recipe.name
    for source in recipe.sources:
        if all((raw / member).is_file() for member in source.members):
            say(f"{raw}: downloaded before")
            continue
        said = f"md5 {source.md5}, {source.checksum_from}" if source.md5 else "no checksum published here"
        say(f"downloading {source.url} ({said})")
        archive = download(source.url, folder / source.file, md5=source.md5, progress=terminal_progress())
        unpack(archive, source.members, raw)
    return raw
