"""A prepared folder: memory-mapped matrices in, whole batches of tensors out (numpy; torch for tensors only).

The folder (format 1) is written by `prepare`: schema.json, prepared.json, encoding/, where there are groups
groups.parquet (their texts in the order of their numbers), and for each split ids.npy (int32 [rows, W],
row-major, W laid out by `Schema.id_slices`), numeric.npy (float32 [rows, N]), labels.npy (float32 [rows, T])
and, where the data has them, weight.npy (float32 [rows]), group.npy (int32 [rows]) and time.npy (float64
[rows]). sources.json names the files it was made from. vectors/ holds the pretrained rows of columns that
have them, float32 [V, D] in the order of the vocabulary. Of interactions a row holds ids and context alone
(`Schema.of_rows`), and sides/user and sides/item hold what is known of users and items, a row for every id.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..config import json_digest
from ..errors import InputError, unknown_name
from ..files import restore, sha256_file
from ..schema import FIRST, Schema

if TYPE_CHECKING:  # torch alone takes 190 MiB, and preparing data needs no tensors
    import torch
    from torch import Tensor

    from ..batch import Batch, Inputs
    from ..itemlists import ItemLists
    from ..schema import Side

    Rows = np.ndarray | slice | Tensor

FORMAT = 1

DTYPES = {"ids": np.int32, "numeric": np.float32, "labels": np.float32, "weight": np.float32,
           "group": np.int32, "time": np.float64}


class Split:
    """The rows of one split as matrices; `batch` gathers any of them at once."""

    def __init__(self, schema: Schema, ids: np.ndarray, numeric: np.ndarray | None, labels: np.ndarray,
                 weight: np.ndarray | None = None, group: np.ndarray | None = None,
                 time: np.ndarray | None = None, where: str = "split") -> None:
        """Arrays as in the folder; numeric=None: there is no numeric column; one label may be [rows].

        Other types are converted (which copies); InputError names `where` when a shape does not fit.
        """
        self.schema = schema
        rows = len(ids)
        if numeric is None:
            numeric = np.zeros((rows, 0), np.float32)
        if labels.ndim == 1:
            labels = labels[:, None]
        shapes = split_shapes(schema, rows)
        given = {"ids": ids, "numeric": numeric, "labels": labels, "weight": weight, "group": group,
                 "time": time}
        arrays: dict[str, np.ndarray] = {}
        for name, array in given.items():
            if array is None:
                continue
            if array.shape != shapes[name]:
                raise InputError(f"{where}: {name} has shape {list(array.shape)}, the schema and {rows} rows "
                                 f"of ids want {list(shapes[name])}; prepare the data again")
            arrays[name] = np.ascontiguousarray(array, DTYPES[name])
        self.ids, self.numeric, self.labels = arrays["ids"], arrays["numeric"], arrays["labels"]
        self.weight, self.group, self.time = (arrays.get(name) for name in ("weight", "group", "time"))
        self._fields = len(schema.of("categorical"))
        self._bags = {c.name: schema.id_slices()[c.name] for c in schema.of("bag", "sequence")}

    def __len__(self) -> int:
        return len(self.ids)

    def inputs(self, rows: Rows) -> Inputs:
        """What a model sees: ids int32 [B, F], numeric [B, N], bags int32 [B, L]; a slice gives views."""
        return self._inputs(_index(rows))

    def batch(self, rows: Rows) -> Batch:
        """These rows with labels [B] (or [B, T] for several), weight (else ones) and group (else zeros)."""
        import torch

        from ..batch import Batch

        index = _index(rows)
        labels = self._pick("labels", index)
        count = len(labels)
        weight = labels.new_ones(count) if self.weight is None else self._pick("weight", index)
        group = self._pick("group", index) if self.group is not None else labels.new_zeros(count)
        if labels.shape[1] == 1:
            labels = labels.squeeze(1)
        return Batch(self._inputs(index), labels, weight, group.to(torch.int32))

    def first(self, rows: int) -> Split:
        """Its first rows, as views, where the matrices are on the host."""
        arrays = {name: array[:rows] for name, array in self._arrays().items()}
        return Split(self.schema, **arrays)

    def on(self, device: torch.device) -> Split:
        """The same split with its matrices on a device; `batch` then wants row numbers on it, or a slice."""
        there = copy.copy(self)
        there._tensors = {name: tensor.to(device) for name, tensor in self._tensors.items()}
        return there

    @property
    def device(self) -> torch.device:
        """Where the matrices are."""
        return self._tensors["ids"].device

    @property
    def mib(self) -> float:
        """Size of all matrices together."""
        return sum(array.nbytes for array in self._arrays().values()) / 2**20

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays = {name: getattr(self, name) for name in DTYPES}
        return {name: array for name, array in arrays.items() if array is not None}

    @functools.cached_property
    def _tensors(self) -> dict[str, Tensor]:
        import torch

        return {name: torch.from_numpy(array) for name, array in self._arrays().items()}

    def _inputs(self, index: Tensor | slice) -> Inputs:
        from ..batch import Inputs

        ids = self._pick("ids", index)
        bags = {name: ids[:, place] for name, place in self._bags.items()}
        return Inputs(ids[:, :self._fields], self._pick("numeric", index), bags)

    def _pick(self, name: str, index: Tensor | slice) -> Tensor:
        tensor = self._tensors[name]
        return tensor[index] if isinstance(index, slice) else tensor.index_select(0, index)


class Prepared:
    """A prepared data set: its schema, its splits, and the digest that names it."""

    def __init__(self, schema: Schema, splits: dict[str, Split], record: dict[str, Any],
                 folder: Path | None) -> None:
        """Use `Prepared.open` or `Prepared.in_memory`; `record` is the content of prepared.json."""
        self.schema, self.record, self.folder = schema, record, folder
        self._splits = splits

    @classmethod
    def open(cls, folder: Path | str) -> Prepared:
        """Map a prepared folder; InputError when it is missing, damaged or foreign (bytes: see `verify`)."""
        folder = Path(folder)
        restore(folder)
        record = _read_record(folder)
        schema = Schema.load(folder / "schema.json")
        splits = {name: _open_split(folder, name, entry, schema.of_rows())
                  for name, entry in record["splits"].items()}
        return cls(schema, splits, record, folder)

    @classmethod
    def in_memory(cls, schema: Schema, splits: dict[str, Split], digest: str = "") -> Prepared:
        """A data set without a folder, for generated data; without a digest, that of the arrays is taken."""
        if not digest:
            arrays = {name: _array_digest(split) for name, split in splits.items()}
            digest = json_digest({"schema": schema.digest(), "splits": arrays})
        record = {"format": FORMAT, "data_digest": digest, "table_sizes": table_sizes(schema),
                  "splits": {name: {"rows": len(split)} for name, split in splits.items()}}
        return cls(schema, splits, record, None)

    @property
    def names(self) -> tuple[str, ...]:
        """The splits there are."""
        return tuple(self._splits)

    @property
    def data_digest(self) -> str:
        """SHA-256 that changes with any id, number, label, vocabulary or setting of the preparation."""
        return self.record["data_digest"]

    @property
    def table_sizes(self) -> dict[str, int]:
        """Vocabulary rows of each column that has its own vocabulary, padding and unknown included."""
        return dict(self.record["table_sizes"])

    def split(self, name: str) -> Split:
        """The split of that name; UnknownName with near matches."""
        if name not in self._splits:
            raise unknown_name("split", name, self._splits)
        return self._splits[name]

    def side(self, side: Side) -> Split:
        """What is known of every user or item of interactions: a row for each id, in the order of the ids.

        The columns are those of `Schema.of_side`; ids 0 (padding) and 1 (unknown) have empty rows.
        """
        schema = self.schema.of_side(side)
        if entry := self.record.get("sides", {}).get(side):
            assert self.folder is not None, "data in memory have no sides"
            return _open_split(self.folder / "sides", side, entry, schema)
        rows = self.schema.size(side) + FIRST
        ids = np.arange(rows, dtype=np.int32)[:, None]
        ids[:FIRST] = 0
        return Split(schema, ids, None, np.zeros((rows, 0), np.float32))

    def lists(self, *names: str) -> ItemLists:
        """The items of each user in these splits together, numbered from 0 (id less FIRST) as users are."""
        import torch

        from ..itemlists import ItemLists

        schema = self.schema.of_rows()
        places = [schema.id_slices()[column].start for column in (self.schema.user, self.schema.item)]
        ids = [torch.from_numpy(self.split(name).ids[:, places]).long() - FIRST for name in names]
        user, item = torch.cat(ids).unbind(1) if ids else torch.zeros((2, 0), dtype=torch.int64)
        return ItemLists.of(user, item, self.schema.size("user"), self.schema.size("item"))

    def vectors(self) -> dict[str, np.ndarray]:
        """Pretrained rows float32 [V, D] by column, mapped from disk; 0, 1 and values without one are zero.

        InputError for a damaged file and for one that does not fit the vocabulary.
        """
        found = {}
        for name, entry in self.record.get("vectors", {}).items():
            assert self.folder is not None, "data in memory have no vectors"
            path = self.folder / "vectors" / entry["file"]
            found[name] = _open_array(path, np.float32)
            if found[name].ndim != 2 or len(found[name]) != self.table_sizes.get(name):
                raise InputError(f"{path}: has shape {list(found[name].shape)}, but the vocabulary has "
                                 f"{self.table_sizes.get(name)} rows; prepare the data again")
        return found

    def verify(self, *splits: str) -> None:
        """Recompute every digest (reads all bytes); InputError names the first file that does not match.

        With names of splits, the others are left out.
        """
        if self.folder is None:
            return
        if record_digest(self.record) != self.data_digest:
            raise InputError(f"{self.folder / 'prepared.json'}: its digest does not fit its content; "
                             "prepare the data again")
        files = dict(self.record["files"])
        for name in splits or self.names:
            self.split(name)
            entry = self.record["splits"][name]
            files |= {f"{name}/{file}": digest for file, digest in entry["files"].items()}
        for side, entry in self.record.get("sides", {}).items():
            files |= {f"sides/{side}/{file}": digest for file, digest in entry["files"].items()}
        for entry in self.record.get("vectors", {}).values():
            files[f"vectors/{entry['file']}"] = entry["sha256"]
        for name, digest in files.items():
            path = self.folder / name
            if not path.is_file():
                raise InputError(f"{path}: no such file; prepare the data again")
            if sha256_file(path) != digest:
                raise InputError(f"{path}: its bytes are not the ones that were written (SHA-256 differs); "
                                 "prepare the data again")


def split_shapes(schema: Schema, rows: int) -> dict[str, tuple[int, ...]]:
    """The shape of each matrix of a split with that many rows."""
    width = max((place.stop for place in schema.id_slices().values()), default=0)
    return {"ids": (rows, width), "numeric": (rows, len(schema.of("numeric"))),
            "labels": (rows, len(schema.labels)), "weight": (rows,), "group": (rows,), "time": (rows,)}


def table_sizes(schema: Schema) -> dict[str, int]:
    """Vocabulary rows of each column with a vocabulary of its own."""
    return {c.name: c.vocab_size for c in schema.columns if c.kind != "numeric" and not c.share_with}


def record_digest(record: dict[str, Any]) -> str:
    """The data digest of a prepared.json: all of it but the digest itself, those of container files and what
    is told of rows that are not there."""
    told = ("data_digest", "files", "left_out")
    return json_digest({key: value for key, value in record.items() if key not in told})


def _index(rows: Rows) -> Tensor | slice:
    if not isinstance(rows, np.ndarray):
        return rows
    import torch

    return torch.from_numpy(np.ascontiguousarray(rows, np.int64))


def _array_digest(split: Split) -> str:
    digest = hashlib.sha256()
    for name, array in split._arrays().items():
        digest.update(f"{name}{array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def _read_record(folder: Path) -> dict[str, Any]:
    path = folder / "prepared.json"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; make it with "
                         f"`recsys-zoo prepare FILE --schema S --out {folder}`")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; is {folder} a prepared folder?") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON: {error}; prepare the data again") from None
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        found = record.get("format") if isinstance(record, dict) else None
        raise InputError(f"{path}: format {found!r} where {FORMAT} was expected; prepare the data again")
    for key in ("splits", "table_sizes", "files", "data_digest"):
        if key not in record:
            raise InputError(f"{path}: the entry {key!r} is missing; prepare the data again")
    if any(not {"rows", "files"} <= set(entry) for entry in record["splits"].values()):
        raise InputError(f"{path}: a split without rows or files; prepare the data again")
    return record


def _open_split(folder: Path, name: str, entry: dict[str, Any], schema: Schema) -> Split:
    arrays = {Path(file).stem: _open_array(folder / name / file, DTYPES.get(Path(file).stem))
              for file in entry["files"]}
    for needed in ("ids", "numeric", "labels"):
        if needed not in arrays:
            raise InputError(f"{folder / 'prepared.json'}: split {name!r} lists no {needed}.npy; "
                             "prepare the data again")
    if len(arrays["ids"]) != entry["rows"]:
        raise InputError(f"{folder / name / 'ids.npy'}: {len(arrays['ids'])} rows where prepared.json says "
                         f"{entry['rows']}; prepare the data again")
    return Split(schema, **arrays, where=str(folder / name))


def _open_array(path: Path, expected: type | None) -> np.ndarray:
    try:
        # "c": private pages, so that torch may share the memory without a warning; the file is never written
        array = np.load(path, mmap_mode="c", allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; prepare the data again") from None
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a whole .npy file ({error}); prepare the data again") from None
    if expected is None or array.dtype != expected:
        wanted = np.dtype(expected) if expected else "a known matrix"
        raise InputError(f"{path}: holds {array.dtype}, not {wanted}; prepare the data again")
    return array
