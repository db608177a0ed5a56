"""Raw files to a prepared folder in two streaming passes, with one byte of memory a row beside the batches.

Pass 1 checks labels, decides the split of every row and counts values on training rows; pass 2 encodes. The
folder appears whole or not at all, and the same files and spec give the same bytes whatever the batch size.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from ..files import sha256_file, whole_folder
from .assign import Assigner, DenseCodes, needed_text, split_of_files
from .encode import Encoder, vocabulary_file
from .fit import Fitter
from .labels import read_labels, read_weights
from .read import check_lines, column_names, read_chunks
from .spec import DataSpec
from .store import FORMAT, Prepared, record_digest, table_sizes
from .values import Chunk, missing_column
from .vectors import FOLDER, Vectors, check_columns, write_rows
from .write import SplitWriter

Progress = Callable[[str, int, int], None]  # "split", "count" or "encode"; rows so far; rows in all or 0


def prepare(files: Sequence[Path | str], spec: DataSpec, out: Path | str, *,
            split_files: dict[str, list[Path]] | None = None, batch_rows: int = 32_768,
            progress: Progress | None = None, vectors: Mapping[str, Vectors] | None = None) -> Prepared:
    """Encode files by a spec into the folder `out` (replaced when it is a prepared folder) and open it.

    files: to be divided by spec.split, or, beside split_files (split name -> files), the training files.
    batch_rows bounds memory. vectors: pretrained ones by column, whose keys all join the vocabulary.
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
        _Preparation(spec, plan, batch_rows, progress or (lambda *_: None), vectors or {}).run(folder)
    return Prepared.open(out)


class _Preparation:
    def __init__(self, spec: DataSpec, plan: list[tuple[str, Path]], batch_rows: int,
                 progress: Progress, vectors: Mapping[str, Vectors]) -> None:
        self.spec, self.plan, self.batch_rows, self.progress = spec, plan, batch_rows, progress
        self.vectors = vectors
        self.names = tuple(dict.fromkeys(name for name, _ in plan)) if plan[0][0] else spec.split.splits
        self.names = tuple(sorted(self.names, key=lambda name: name != "train"))
        self.assigner = Assigner(spec.split, self.names)
        self.assigned: list[np.ndarray] = []
        self.rows = np.zeros(len(self.names), np.int64)
        self.positives = np.zeros((len(self.names), len(spec.labels)), np.int64)

    def run(self, folder: Path) -> None:
        for _, path in self.plan:  # a column missing in the last file is said before hours of reading
            known = column_names(path, self.spec.read)
            for name in self.spec.raw_columns():
                if name not in known:
                    raise missing_column(str(path), name, known)
        paths = dict.fromkeys(path for _, path in self.plan)
        self.blank_lines = {path: check_lines(path, self.spec.read) for path in paths}
        if self.assigner.looks_ahead:
            self._look_ahead()
        encoder = self._count()
        self._check_splits()
        splits = self._encode(encoder, folder)
        self._record(encoder, splits, folder)

    def _chunks(self, what: str, columns: Sequence[str]) -> Iterator[tuple[str, int, Chunk, np.ndarray]]:
        """Split, rows of earlier files, chunk and labels; rows that a label drops are left out."""
        rows, total = 0, int(self.rows.sum())
        for split, path in self.plan:
            before = rows
            keep_empty = self.blank_lines[path] == 0
            for chunk in read_chunks(path, columns, self.spec.read, self.batch_rows, keep_empty):
                labels, kept = read_labels(chunk, self.spec)
                yield split, before, chunk.filter(kept), labels[kept]
                rows += len(kept)
                self.progress(what, rows, total)

    def _look_ahead(self) -> None:
        names = [*self.spec.split.reads, *(label.raw for label in self.spec.labels)]
        columns = list(dict.fromkeys(filter(None, names)))
        for _, _, chunk, _ in self._chunks("split", columns):
            self.assigner.observe(chunk)
        self.assigner.settle()

    def _count(self) -> Encoder:
        fitter, done = Fitter(self.spec, {name: given.keys for name, given in self.vectors.items()}), 0
        for split, before, chunk, labels in self._chunks("count", self.spec.raw_columns()):
            assigned = self.assigner.assign(chunk, done, before, split)
            done += len(chunk)
            self.assigned.append(assigned)
            self.rows += np.bincount(assigned, minlength=len(self.names))
            for place in range(len(self.names)):
                self.positives[place] += labels[assigned == place].sum(0, dtype=np.float64).astype(np.int64)
            if self.spec.weight:
                read_weights(chunk, self.spec)
            if self.spec.group:
                needed_text(chunk, self.spec.group, "group rows")
            fitter.add(chunk.filter(assigned == 0))
        return fitter.finish()

    def _check_splits(self) -> None:
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

    def _encode(self, encoder: Encoder, folder: Path) -> dict[str, dict[str, Any]]:
        writers = {name: SplitWriter(folder / name, encoder.schema, int(self.rows[self.names.index(name)]),
                                     bool(self.spec.weight), bool(self.spec.group)) for name in self.present}
        assigned, groups, done = np.concatenate(self.assigned), DenseCodes(), 0
        for _, _, chunk, labels in self._chunks("encode", self.spec.raw_columns()):
            ids, numeric = encoder.arrays(chunk)
            arrays = {"ids": ids, "numeric": numeric, "labels": labels}
            if self.spec.weight:
                arrays["weight"] = read_weights(chunk, self.spec)
            if self.spec.group:
                arrays["group"] = groups.encode(needed_text(chunk, self.spec.group, "group rows"))
            here = assigned[done:done + len(chunk)]
            done += len(chunk)
            if len(here) < len(chunk):
                break
            for name, writer in writers.items():
                writer.append(arrays, here == self.names.index(name))
        if done != len(assigned):
            raise InputError("the files changed while they were read; prepare again when nobody writes them")
        return {name: {"rows": writer.rows, "files": writer.close()} for name, writer in writers.items()}

    def _record(self, encoder: Encoder, splits: dict[str, dict[str, Any]], folder: Path) -> None:
        encoder.schema.save(folder / "schema.json")
        encoder.save(folder / "encoding")
        names = ["schema.json", "encoding/spec.json", "encoding/numeric.json"]
        names += [f"encoding/{vocabulary_file(name)}" for name in encoder.vocabularies]
        for name, ones in zip(self.names, self.positives, strict=True):
            if name in splits:
                splits[name]["positives"] = ones.tolist()
        record = {"format": FORMAT, "spec": self.spec.model_dump(mode="json"), "splits": splits,
                  "table_sizes": table_sizes(encoder.schema), "schema": encoder.schema.digest(),
                  "fitted": encoder.fitted,
                  "vocabularies": {name: v.digest() for name, v in encoder.vocabularies.items()},
                  "files": {name: sha256_file(folder / name) for name in names}}
        if self.vectors:
            (folder / FOLDER).mkdir()
            record["vectors"] = {name: write_rows(given, name, encoder.vocabularies[name], folder / FOLDER)
                                 for name, given in self.vectors.items()}
        record["data_digest"] = record_digest(record)
        (folder / "prepared.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
