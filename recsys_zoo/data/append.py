"""New rows at the end of a prepared folder, encoded as its old ones; it changes whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ..errors import InputError, unknown_name
from ..files import whole_folder
from .assign import DenseCodes
from .encode import Encoder, vocabulary_file
from .fit import Grower
from .prepare import Preparation, Progress
from .read import readable
from .sources import Sources
from .spec import DataSpec, SplitSpec
from .store import Prepared, Split, table_sizes
from .tables import Table
from .vectors import FOLDER, extend_rows
from .write import SplitWriter

_COPIED = 1 << 16  # rows copied together


def append(
    folder: Path | str,
    split_files: dict[str, list[Path]],
    *,
    grow: bool = False,
    allow_repeat: bool = False,
    spec: DataSpec | None = None,
    tables_from: Path | str = ".",
    batch_rows: int = 32_768,
    progress: Progress | None = None,
    say: Callable[[str], None] = print,
) -> Prepared:
    """Add the rows of new files at the end of splits of a prepared folder, by its old encoding, and open it.

    split_files: split -> files; a split that is not there yet may be "train", "valid" or "test". The rule
    that divided the first files is not applied. Ids, numeric rules and buckets stay; values that are not in
    a vocabulary are unknown, but with grow those that reach their column's min_count among the new training
    rows get ids behind the old ones. spec: the one of the folder, whose side tables are read again from its
    files (paths start at tables_from) and kept in place of the old ones.
    A file whose bytes the folder holds already, or that is given twice, is refused unless allow_repeat; of
    files that joined before such a record was kept this cannot be told, which is said.
    InputError, with the folder as it was, for everything wrong in files or folder. The splits that get rows
    are written anew, which takes their size of disk space; the others are linked.
    """
    folder = Path(folder)
    Prepared.open(folder)
    with whole_folder(folder) as building:
        old = Prepared.open(folder)  # once more: from here on no other process changes it
        plan = _plan(split_files, old.names, grow)
        old.verify(*(name for name in split_files if name in old.names))  # damage must not get a new digest
        encoder = Encoder.open(folder / "encoding")
        if encoder.spec.interactions:
            raise InputError(f"{folder}: holds interactions, whose users, items and repeats are chosen from "
                             "all rows together; prepare all files anew")
        tables = encoder.tables if spec is None else _tables(spec, old, Path(tables_from))
        sources = Sources.open(folder)
        if not sources.complete:
            say(f"{folder}: was prepared before files were recorded, so a repeat of those is not noticed")
        _Appending(
            old, plan, encoder, grow, tables, batch_rows, progress, sources, allow_repeat
        ).run(building)
    return Prepared.open(folder)


class _Appending(Preparation):
    def __init__(
        self,
        old: Prepared,
        plan: list[tuple[str, Path]],
        encoder: Encoder,
        grow: bool,
        tables: Sequence[Table],
        batch_rows: int,
        progress: Progress | None,
        sources: Sources,
        allow_repeat: bool,
    ) -> None:
        spec = encoder.spec.model_copy(update={"split": SplitSpec()})  # no rule divides the new rows
        names = tuple(dict.fromkeys([*old.names, *(name for name, _ in plan)]))
        super().__init__(spec, plan, tables, batch_rows, progress, names)
        self.old, self.encoder, self.grow, self.given_files = old, encoder, grow, False
        self.earlier, self.allow_repeat = sources, allow_repeat
        self.touched = [name for name in self.names if name in dict(plan)]
        for place, name in enumerate(self.names):
            if name in old.names:
                self.rows[place] = len(old.split(name))
                self.positives[place] = old.record["splits"][name]["positives"]
        self.old_rows = self.rows.copy()
        if spec.group:
            self.groups = _groups_of(old)
        if not grow:
            needed = [*(label.raw for label in spec.labels), spec.weight, spec.group]
            self.counted = tuple(dict.fromkeys(filter(None, needed))) or self.counted[:1]

    def _sources(self) -> Sources:
        new = super()._sources()
        if not self.allow_repeat:
            self.earlier.refuse(new, self.old.folder)
        return self.earlier.joined_by(new)

    def _fitter(self) -> Grower:
        return Grower(self.encoder, self.grow)

    def _check_splits(self) -> None:
        super()._check_splits()
        self.present = self.touched
        for name, rows, before in zip(self.names, self.rows, self.old_rows, strict=True):
            if name in self.touched and rows == before:
                raise InputError(f"split {name!r} gets no row: the labels drop all rows of its files")

    def _writers(self, encoder: Encoder, folder: Path) -> dict[str, SplitWriter]:
        writers = super()._writers(encoder, folder)
        for name, writer in writers.items():
            if name in self.old.names:
                _copy_rows(self.old.split(name), writer)
        return writers

    def _save(self, encoder: Encoder, splits: dict[str, dict[str, Any]], folder: Path) -> None:
        source, target = self.old.folder / "encoding", folder / "encoding"
        shutil.copytree(source, target)  # what stays keeps its bytes, whatever version wrote it
        for name, vocabulary in encoder.vocabularies.items():
            if vocabulary is not self.encoder.vocabularies[name]:
                vocabulary.save(target / vocabulary_file(name))
        if self.tables is not self.encoder.tables:
            encoder.save_tables(target)
        added = {
            name: int(rows - before)
            for name, rows, before in zip(self.names, self.rows, self.old_rows, strict=True)
            if name in self.touched
        }
        sizes, before = table_sizes(encoder.schema), self.old.table_sizes
        grown = {name: sizes[name] - before[name] for name in sizes if sizes[name] > before[name]}
        entry = {"rows": added, "new_ids": grown}
        self.absent += np.array([table["absent"] for table in self.old.record.get("tables", [])], np.int64)
        for name in set(self.old.names) - set(self.touched):
            shutil.copytree(self.old.folder / name, folder / name, copy_function=_link)
        splits = {name: splits.get(name) or self.old.record["splits"][name] for name in self.names}
        record = {**self.old.record, "appended": [*self.old.record.get("appended", []), entry]}
        self._record(encoder, splits, folder, record)

    def _vectors(self, encoder: Encoder, folder: Path) -> dict[str, dict[str, Any]]:
        """The old rows; values that joined a vocabulary have no vector, so zeros."""
        entries = {}
        for name, rows in self.old.vectors().items():
            entry = self.old.record["vectors"][name]
            path = folder / FOLDER / entry["file"]
            entries[name] = {**entry, "sha256": extend_rows(rows, len(encoder.vocabularies[name]), path)}
        return entries


def _plan(split_files: dict[str, list[Path]], names: tuple[str, ...], grow: bool) -> list[tuple[str, Path]]:
    for name in split_files:
        if name not in (*names, "train", "valid", "test"):
            raise unknown_name("split", name, {*names, "train", "valid", "test"})
    plan = [(name, Path(path)) for name, paths in split_files.items() for path in paths]
    if not plan:
        raise InputError("no file is given; name the split of each file to append")
    if grow and not split_files.get("train"):
        raise InputError(
            "vocabularies grow by training rows, but no file is appended to 'train'; leave out "
            "grow, or name one"
        )
    return plan


def _tables(spec: DataSpec, old: Prepared, folder: Path) -> list[Table]:
    """The tables of a schema that is the folder's own, but for the names of their files; else InputError."""
    given = spec.model_dump(mode="json")
    kept = DataSpec.parse(old.record["spec"], str(old.folder / "prepared.json")).model_dump(mode="json")
    for table in [*given.get("tables", []), *kept.get("tables", [])]:
        del table["files"]
    for key in {**kept, **given}:
        if given.get(key) != kept.get(key):
            raise InputError(
                f"the schema's {key!r} is not the one that {old.folder} was prepared with; "
                "append with that one or without any, or prepare all files anew"
            )
    return [Table.read(table, folder) for table in spec.tables]


def _groups_of(old: Prepared) -> DenseCodes:
    path = old.folder / "groups.parquet"
    with readable(path, "without it new rows cannot join old groups; prepare all files anew"):
        return DenseCodes(pl.read_parquet(path, glob=False).get_column("value"))


def _copy_rows(split: Split, writer: SplitWriter) -> None:
    for start in range(0, len(split), _COPIED):
        rows = slice(start, start + _COPIED)
        arrays = {
            "ids": split.ids,
            "numeric": split.numeric,
            "labels": split.labels,
            "weight": split.weight,
            "group": split.group,
        }
        part = {name: array[rows] for name, array in arrays.items() if array is not None}
        writer.append(part, np.ones(len(part["ids"]), bool))


def _link(source: str, target: str) -> None:
    """A second name for a file that nobody writes to; a copy where the disk knows no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
