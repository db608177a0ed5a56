"""Raw files to a prepared folder in two streaming passes, with one byte of memory a row beside the batches;
rules that look at all rows first make one more each, and hold what their classes say.

Pass 1 checks labels, decides the split of every row and counts values on training rows; pass 2 encodes. The
folder appears whole or not at all, and the same files and spec give the same bytes whatever the batch size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import sha256_file, whole_folder
from ..schema import FIRST
from .assign import Assigner, DenseCodes, needed_text, split_of_files
from .encode import Encoder
from .fit import Fitter, Grower
from .labels import read_labels, read_weights
from .read import check_lines, column_names, read_chunks
from .select import DROPPED, SIDES, InteractionFitter, Selection, above, side_chunk
from .sources import Sources
from .spec import DataSpec
from .split import hash_unit, held_by_hash
from .splitspec import given_of
from .store import FORMAT, Prepared, record_digest, table_sizes
from .tables import Table, join, plan_join, refuse_both
from .values import Chunk, as_times, missing_column
from .vectors import FOLDER, Vectors, check_columns, write_rows
from .write import SplitWriter, write_side

Progress = Callable[[str, int, int], None]  # "split", "count" or "encode"; rows so far; rows in all or 0


def prepare(files: Sequence[Path | str], spec: DataSpec, out: Path | str, *,
            split_files: dict[str, list[Path]] | None = None, tables_from: Path | str = ".",
            batch_rows: int = 32_768, progress: Progress | None = None,
            vectors: Mapping[str, Vectors] | None = None) -> Prepared:
    """Encode files by a spec into the folder `out` (replaced when it is a prepared folder) and open it.

    files: to be divided by spec.split, or, beside split_files (split name -> files), the training files.
    tables_from: where the paths of spec.tables start. batch_rows bounds memory; side tables are held whole.
    vectors: pretrained ones by column.
    InputError, with nothing left behind, for everything wrong in files, spec or place, and when another
    process prepares `out`.
    """
    out = Path(out)
    foreign = out.exists() and not (out / "prepared.json").is_file()
    if foreign and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"{out}: exists and is not a prepared folder; choose another name")
    plan = split_of_files([Path(f) for f in files], split_files, spec.split)
    check_columns(vectors or {}, spec)
    with whole_folder(out) as folder:
        tables = [Table.read(table, Path(tables_from)) for table in spec.tables]
        Preparation(spec, plan, tables, batch_rows, progress, vectors=vectors).run(folder)
    return Prepared.open(out)


class Preparation:
    """The passes over the files; `run` fills a folder."""

    def __init__(self, spec: DataSpec, plan: list[tuple[str, Path]], tables: Sequence[Table], batch_rows: int,
                 progress: Progress | None, names: tuple[str, ...] = (),
                 vectors: Mapping[str, Vectors] | None = None) -> None:
        self.spec, self.plan, self.tables, self.batch_rows = spec, plan, tables, batch_rows
        self.progress, self.vectors = progress or (lambda *_: None), vectors or {}
        names = names or tuple(dict.fromkeys(name for name, _ in plan if name)) or spec.split.splits
        if spec.split.cut_valid:
            if "valid" in names:
                raise InputError(f"split.cut_valid={spec.split.cut_valid:g} takes valid from train, but "
                                 "there are files of valid; leave them out, or cut_valid")
            names = (*names, "valid")
        self.names = tuple(sorted(names, key=lambda name: name != "train"))
        self.assigner = Assigner(spec.split, self.names)
        self.selection = Selection(spec)
        self.given_files = any(name for name, _ in plan)  # each split has its own
        self.kept: np.ndarray | None = None  # rows of interactions that stay; None: all
        self.cut = np.empty(0, bool)  # training rows that go to valid (`SplitSpec.cut_valid`)
        self.assigned: list[np.ndarray] = []
        self.groups = DenseCodes()
        self.counted = spec.raw_columns(counting=True) or spec.raw_columns()[:1]  # in the counting pass
        self.rows = np.zeros(len(self.names), np.int64)
        self.left_out = np.zeros((len(self.names), 2), np.int64)  # by the rules of interactions: repeats, few
        self.positives = np.zeros((len(self.names), len(spec.labels)), np.int64)

    def run(self, folder: Path) -> None:
        needed, _ = plan_join(self.spec.raw_columns(), self.tables)
        for _, path in self.plan:  # a column missing in the last file is said before hours of reading
            known = column_names(path, self.spec.read)
            for name in needed:
                if name not in known:
                    raise missing_column(str(path), name, known)
            refuse_both(str(path), known, self.tables)
        paths = dict.fromkeys(path for _, path in self.plan)
        with ThreadPoolExecutor(1) as reader:
            sources = reader.submit(self._sources)
            self.blank_lines = {path: check_lines(path, self.spec.read) for path in paths}
            self.sources = sources.result()
        if any(blank != 0 for blank in self.blank_lines.values()):
            self.counted = self.spec.raw_columns()  # a row may have values in no other column
        if self.assigner.looks_ahead or self.selection.needed:
            self._look_ahead()
        if self.spec.split.cut_valid:
            self._cut()
        encoder = self._count()
        self._check_splits()
        splits = self._encode(encoder, folder)
        self._save(encoder, splits, folder)

    def _chunks(self, what: str, columns: Sequence[str]) -> Iterator[tuple[str, int, Chunk, np.ndarray]]:
        """Split, rows of earlier files, chunk and labels; rows that a label drops are left out."""
        rows, total = 0, sum(map(len, self.assigned))
        own, tables = plan_join(columns, self.tables)
        places = [self.tables.index(table) for table in tables]
        self.absent = np.zeros(len(self.tables), np.int64)  # rows kept whose key a table lacks
        for split, path in self.plan:
            before = rows
            keep_empty = self.blank_lines[path] == 0
            for chunk in read_chunks(path, own, self.spec.read, self.batch_rows, keep_empty):
                chunk, found = join(chunk, tables)
                labels, kept = read_labels(chunk, self.spec)
                kept &= above(chunk, self.selection.rule)
                self.absent[places] += (~found[kept]).sum(0)
                yield split, before, chunk.filter(kept), labels[kept]
                rows += len(kept)
                self.progress(what, rows, total)

    @property
    def _deciding(self) -> list[str]:
        """The columns that say which rows count, and to which split they go."""
        names = [*self.spec.split.reads, *(label.raw for label in self.spec.labels)]
        if self.spec.interactions:
            names += [*map(self.spec.raw_id, SIDES), *self.spec.interactions.reads]
        return list(dict.fromkeys(filter(None, names)))

    def _cut(self) -> None:
        """Which training rows go to valid; 17 bytes a row, for a moment more."""
        codes, ids, done = DenseCodes(), [*map(self.spec.raw_id, SIDES)], 0
        found: list[tuple[np.ndarray, ...]] = []
        for split, before, chunk, _ in self._chunks("split", self._deciding):
            texts = [needed_text(chunk, name, "cut off valid") for name in ids]
            unit = hash_unit([text.to_numpy() for text in texts], f"{self.spec.split.salt}:valid")
            found.append((codes.encode(texts[0]), unit, self._assigned(chunk, done, before, split) == 0))
            done += len(chunk)
        if not found:
            raise InputError("the files hold no row")
        users, units, self.cut = (np.concatenate(column) for column in zip(*found, strict=True))
        self.cut[self.cut] = held_by_hash(users[self.cut], units[self.cut], self.spec.split.cut_valid)
        if not self.cut.any():
            raise InputError(f"split.cut_valid={self.spec.split.cut_valid:g} cuts no training pair off; give "
                             "more data or a larger share")

    def _assigned(self, chunk: Chunk, first: int, before: int, split: str) -> np.ndarray:
        """The split of each row, or `DROPPED`; before these are known, those that are cut off count as
        training rows."""
        assigned = self.assigner.assign(chunk, first, before, split)
        if len(cut := self.cut[first:first + len(chunk)]):
            assigned = np.where(cut, np.uint8(self.names.index("valid")), assigned)
        return assigned if self.kept is None else (
            np.where(self.kept[first:first + len(chunk)], assigned, np.uint8(DROPPED)))

    def _look_ahead(self) -> None:
        for _, _, chunk, _ in self._chunks("split", self._deciding):
            if self.assigner.looks_ahead:
                self.assigner.observe(chunk)
            if self.selection.needed:
                self.selection.observe(chunk)
        if self.selection.needed:
            self.kept = self.selection.settle()
        self.assigner.settle(self.kept)

    def _count(self) -> Encoder:
        fitter, done = self._fitter(), 0
        for split, before, chunk, labels in self._chunks("count", self.counted):
            ruled = self.assigner.assign(chunk, done, before, split)
            assigned = self._assigned(chunk, done, before, split)
            if self.kept is not None:
                few = self.selection.few[done:done + len(chunk)].astype(np.int64)
                gone = assigned == DROPPED
                np.add.at(self.left_out, (ruled[gone], few[gone]), 1)
            done += len(chunk)
            self.assigned.append(assigned)
            stays = assigned != DROPPED
            self.rows += np.bincount(assigned[stays], minlength=len(self.names))
            for place in range(len(self.names)):
                self.positives[place] += labels[assigned == place].sum(0, dtype=np.float64).astype(np.int64)
            if self.spec.weight:
                read_weights(chunk, self.spec)
            if self.spec.group:
                needed_text(chunk, self.spec.group, "group rows")
            if isinstance(fitter, InteractionFitter):
                fitter.know(chunk.filter(stays))
            fitter.add(chunk.filter(assigned == 0))
        return fitter.finish(self.tables)

    def _sources(self) -> Sources:
        return Sources.of_files(path for _, path in self.plan)

    def _fitter(self) -> Fitter | Grower | InteractionFitter:
        if self.spec.interactions:
            return InteractionFitter(self.spec)
        return Fitter(self.spec, {name: given.keys for name, given in self.vectors.items() if given.join})

    def _check_splits(self) -> None:
        if self.kept is not None and not self.kept.any():
            rule = self.selection.rule
            if rule.rating and not len(self.kept):
                raise InputError(f"interactions: no {rule.rating} is above {rule.above:g}; lower "
                                 "interactions.above")
            raise InputError(f"interactions: none of the {len(self.kept)} rows is left; lower user_core and "
                             "item_core, or the rating's threshold")
        for name, gone, rows in zip(self.names, self.left_out.sum(1), self.rows, strict=True):
            if gone and not rows:
                raise InputError(f"split {name!r}: the rules of interactions leave none of its {gone} rows: "
                                 "they repeat pairs of user and item, or users and items have too few; give "
                                 "other rows, or set interactions.repeats, user_core and item_core")
        if self.spec.split.method == "column":
            self.present = [name for name, rows in zip(self.names, self.rows, strict=True) if rows]
        else:
            self.present = list(self.names)
        if "train" not in self.present:
            raise InputError(f"split.column={self.spec.split.column!r}: no row belongs to 'train'")
        for name, rows, ones in zip(self.names, self.rows, self.positives, strict=True):
            if name in self.present and not rows:
                raise InputError(f"split {name!r} gets no row; give more data or change the [split] settings")
            for label, count in zip(self.spec.labels, ones, strict=True):
                if rows and count in (0, rows):
                    kind = "negative" if count else "positive"
                    raise InputError(f"split {name!r}: label {label.name!r} has no {kind} among {rows} rows; "
                                     "check the label or split otherwise")

    def _writers(self, encoder: Encoder, folder: Path) -> dict[str, SplitWriter]:
        more = {"weight": self.spec.weight, "group": self.spec.group, "time": self._time}
        held = [name for name, column in more.items() if column]
        return {name: SplitWriter(folder / name, encoder.schema.of_rows(), int(self.rows[place]), held)
                for place, name in enumerate(self.names) if name in self.present}

    @property
    def _time(self) -> str:
        return self.spec.interactions.time if self.spec.interactions else ""

    def _encode(self, encoder: Encoder, folder: Path) -> dict[str, dict[str, Any]]:
        writers = self._writers(encoder, folder)
        assigned, done = np.concatenate(self.assigned), 0
        trained, learnt = None, np.zeros(len(self.names), np.int64)  # rows of users who have a training row
        held_out = any(given_of(name) in self.names for name in self.names)
        if self.spec.interactions and self.given_files and not held_out:
            place = encoder.schema.of_rows().id_slices()[self.spec.user].start
            trained = np.r_[[False] * FIRST, encoder.vocabularies[self.spec.user].counts.to_numpy() > 0]
        for _, _, chunk, labels in self._chunks("encode", self.spec.raw_columns()):
            ids, numeric = encoder.arrays(chunk)
            arrays = {"ids": ids, "numeric": numeric, "labels": labels}
            if self.spec.weight:
                arrays["weight"] = read_weights(chunk, self.spec)
            if self._time:
                arrays["time"] = as_times(chunk, self._time)
            if self.spec.group:
                arrays["group"] = self.groups.encode(needed_text(chunk, self.spec.group, "group rows"))
            here = assigned[done:done + len(chunk)]
            done += len(chunk)
            if len(here) < len(chunk):
                break
            if trained is not None:
                known = trained[ids[:, place]] & (here != DROPPED)
                learnt += np.bincount(here[known], minlength=len(self.names))
            for name, writer in writers.items():
                writer.append(arrays, here == self.names.index(name))
        if done != len(assigned):
            raise InputError("the files changed while they were read; prepare again when nobody writes them")
        for name in writers:
            if trained is not None and not learnt[self.names.index(name)]:
                raise InputError(f"split {name!r}: none of its users has a training row; write their ids in "
                                 "its files as in those of train")
        return {name: {"rows": writer.rows, "files": writer.close()} for name, writer in writers.items()}

    def _save(self, encoder: Encoder, splits: dict[str, dict[str, Any]], folder: Path) -> None:
        encoder.save(folder / "encoding")
        self._record(encoder, splits, folder, {"format": FORMAT, "spec": self.spec.model_dump(mode="json")})

    def _record(self, encoder: Encoder, splits: dict[str, dict[str, Any]], folder: Path,
                record: dict[str, Any]) -> None:
        """Write what stands beside encoding/ and the splits; `record` says what is not known here."""
        encoder.schema.save(folder / "schema.json")
        sides = self._sides(encoder, folder)
        self.sources.save(folder)
        if self.spec.group:
            self.groups.save(folder / "groups.parquet")
        for name, ones in zip(self.names, self.positives, strict=True):
            if name in splits:
                splits[name]["positives"] = ones.tolist()
        files = [folder / "schema.json", *folder.glob("groups.parquet"), *folder.glob("encoding/**/*")]
        record |= {"splits": splits, "table_sizes": table_sizes(encoder.schema), "fitted": encoder.fitted,
                   "schema": encoder.schema.digest(),
                   "vocabularies": {name: v.digest() for name, v in encoder.vocabularies.items()},
                   "files": {str(file.relative_to(folder)): sha256_file(file)
                             for file in sorted(files) if file.is_file()}}
        if self.left_out.any():
            record["left_out"] = {name: {"repeats": int(repeats), "few": int(few)} for name, (repeats, few)
                                  in zip(self.names, self.left_out, strict=True) if repeats or few}
        if self.tables:
            record["tables"] = [
                {"file": table.name, "key": table.spec.raw, "keys": len(table), "absent": int(absent)}
                for table, absent in zip(self.tables, self.absent, strict=True)]
        if vectors := self._vectors(encoder, folder):
            record["vectors"] = vectors
        if sides:
            record["sides"] = sides
        record["data_digest"] = record_digest(record)
        (folder / "prepared.json").write_text(json.dumps(record, indent=1), encoding="utf-8")

    def _vectors(self, encoder: Encoder, folder: Path) -> dict[str, dict[str, Any]]:
        """Write the pretrained rows; what prepared.json says of them, by column."""
        return {name: write_rows(given, name, encoder.vocabularies[name], folder / FOLDER)
                for name, given in self.vectors.items()}

    def _sides(self, encoder: Encoder, folder: Path) -> dict[str, dict[str, Any]]:
        """Write what is known of users and items, a row for each of their ids; what prepared.json says."""
        entries = {}
        for side in SIDES:
            if not self.spec.side_columns(side):
                continue
            schema = encoder.schema.of_side(side)
            ids = encoder.vocabularies[schema.user or schema.item].values
            chunk = side_chunk(self.spec, side, ids, self.tables)
            entries[side] = write_side(folder / "sides" / side, schema, *encoder.arrays(chunk, schema))
            for place, table in enumerate(self.tables):
                if table.spec.raw == self.spec.raw_id(side):
                    self.absent[place] = table.find(chunk).null_count()
        return entries
