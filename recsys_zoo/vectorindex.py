"""The items nearest to a vector: an index in torch, or one of faiss (flat, IVF) where that package is there.

A folder holds items.safetensors or items.faiss, and index.json, which says of which weights they are and what
the index was measured to be worth. Nothing is ever unpickled.
"""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from pydantic import ValidationError
from torch import Tensor

from .config import Frozen
from .errors import InputError, unknown_name
from .evaluation.full_rank import check_places, top_items
from .files import restore, sha256_file, whole_folder, write_whole
from .itemlists import ItemLists
from .models.base import Model
from .models.vectors import Metric, Placed
from .nn.products import Products
from .train.checkpoint import load_tensors, save_tensors

Kind = Literal["torch", "flat", "ivf"]
RECORD = "index.json"
_QUERIES = 128  # searched together: as many candidates each as the longest list of seen items wants


class Worth(Frozen):
    """An index beside exact search: recall is the share of the exact top k that it finds, or of items that
    score as much but for rounding; mean over users."""

    recall: float
    k: int
    users: int
    seed: int
    users_per_s: float
    exact_users_per_s: float
    threads: int


class Record(Frozen):
    """What index.json holds."""

    kind: Kind
    metric: Metric
    items: int
    dim: int
    lists: int
    probes: int
    weights_sha256: str
    file_sha256: str
    worth: Worth


class VectorIndex:
    """The vectors of all items, found by a query's inner product or distance.

    kind: torch (exact), flat (faiss, exact) or ivf (faiss: k-means cuts the items into `lists` lists, and the
    `probes` lists that are nearest to the query are searched: all of them is exact).
    """

    def __init__(self, held: Any, kind: Kind, metric: Metric, lists: int = 0, probes: int = 0) -> None:
        """Use `build` or `open`; held: the vectors [I, D] or faiss's index."""
        self.held, self.kind, self.metric, self.lists, self.probes = held, kind, metric, lists, probes
        self.items, self.dim = held.shape if isinstance(held, Tensor) else (held.ntotal, held.d)

    @classmethod
    def build(cls, placed: Placed, kind: Kind = "torch", lists: int = 0, probes: int = 0) -> VectorIndex:
        """Of the items' vectors; lists and probes (0: the root of the number of items, and a tenth of the
        lists) belong to ivf. InputError without faiss, and for numbers that do not fit."""
        items = placed.items
        if not bool(items.isfinite().all()):
            raise InputError("vectors of items are NaN or infinite; the training diverged")
        lists, probes = _checked(kind, len(items), lists, probes)
        if kind == "torch":
            return cls(items, kind, placed.metric)
        faiss = _faiss()
        metric = {"dot": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}[placed.metric]
        held = faiss.index_factory(items.shape[1], f"IVF{lists},Flat" if lists else "Flat", metric)
        rows = items.cpu().numpy()
        if lists:
            held.cp.min_points_per_centroid = 1  # else it complains of small catalogues
            held.nprobe = probes
            held.train(rows)
        held.add(rows)
        return cls(held, kind, placed.metric, lists, probes)

    def top(self, queries: Tensor, seen: ItemLists, k: int) -> tuple[Tensor, Tensor]:
        """The k best items for each query [B, D] that are not in its list of `seen`: int64 [B, k], and their
        scores; -1 and -inf for want of items, of which ivf may find fewer than there are.

        Of equal scores the smaller item number comes first. faiss searches
        k + |seen| candidates, of which no more than |seen| go, and more while what is cut off may have the
        score of the last that is kept. On the CPU.
        """
        check_places(k, self.items)
        if isinstance(self.held, Tensor):
            score = self._products.of(queries.to(self.held.device))
            rows = torch.arange(len(queries), device=self.held.device)
            found = top_items(score, rows, seen.to(rows.device), self.items, k)
            return tuple(part.cpu() for part in found)
        items = torch.full((len(queries), k), -1)
        scores = torch.full((len(queries), k), -torch.inf)
        seen = seen.to("cpu")
        for rows in torch.argsort(seen.counts, stable=True).split(_QUERIES):
            count = min(k + int(seen.counts[rows].max()), self.items)
            while len(rows):
                item, score = self._search(queries[rows.to(queries.device)], count)
                user, own = seen.of_users(rows)
                first = torch.arange(len(rows))[:, None] * self.items
                gone = (item < 0) | torch.isin(item + first, user * self.items + own)
                kept = gone.byte().argsort(dim=1, stable=True)[:, :k]
                gone = gone.gather(1, kept)
                items[rows] = item.gather(1, kept).masked_fill(gone, -1)
                scores[rows] = score.gather(1, kept).masked_fill(gone, -torch.inf)
                cut = (item[:, -1] >= 0) & (score[:, -1] == scores[rows, -1]) & (count < self.items)
                rows, count = rows[cut], min(2 * count, self.items)
        return items, scores

    @functools.cached_property
    def _products(self) -> Products:
        return Placed(self.held[:0], self.held, self.metric).scorer()

    def _search(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """What faiss finds, equal scores by their item numbers."""
        _faiss().omp_set_num_threads(torch.get_num_threads())
        score, item = map(torch.from_numpy, self.held.search(queries.cpu().contiguous().numpy(), count))
        score = score if self.metric == "dot" else -score
        item, order = item.sort(1)
        score, again = score.gather(1, order).sort(dim=1, descending=True, stable=True)
        return item.gather(1, again), score

    def save(self, folder: Path, weights_sha256: str, worth: Worth) -> None:
        """Write the folder whole; one that holds anything but an index is not replaced (InputError)."""
        check_folder(folder)
        with whole_folder(folder) as building:
            path = building / _file(self.kind)
            if self.kind == "torch":
                save_tensors(path, {"items": self.held})
            else:
                _faiss().write_index(self.held, str(path))
            record = Record(
                kind=self.kind, metric=self.metric, items=self.items, dim=self.dim, lists=self.lists,
                probes=self.probes, weights_sha256=weights_sha256, file_sha256=sha256_file(path), worth=worth,
            )  # fmt: skip
            write_whole(building / RECORD, record.model_dump_json(indent=1))

    @classmethod
    def open(cls, folder: Path, weights_sha256: str) -> VectorIndex:
        """Read what `save` wrote; InputError when it is damaged or of other weights."""
        folder = Path(folder)
        restore(folder)
        record = _read(folder / RECORD)
        if record.weights_sha256 != weights_sha256:
            raise InputError(f"{folder}: is the index of another run (its weights differ); make one of this "
                             "run with `recsys-zoo index`")
        path = folder / _file(record.kind)
        if record.kind == "torch":
            held = load_tensors(path, record.file_sha256)["items"]
        else:
            if not path.is_file() or sha256_file(path) != record.file_sha256:
                raise InputError(f"{path}: missing or damaged (SHA-256 differs); make the index again")
            held = _faiss().read_index(str(path))
        return cls(held, record.kind, record.metric, record.lists, record.probes)


def check_folder(folder: Path) -> None:
    """InputError where an index would take the place of something else."""
    folder = Path(folder)
    taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken and not (folder / RECORD).is_file():
        raise InputError(f"{folder}: exists and is no index; choose another folder")


def placed_of(model: Model) -> Placed:
    """The vectors that a model ranks by; InputError for one that has none."""
    placed = getattr(model, "placed", None)
    if placed is None:
        raise InputError(f"{model.name}: has no vectors of users and items to search among or to compare; "
                         "recommend without an index, or train a model with vectors, such as mf")
    return placed()


def compare(queries: Tensor, items: Tensor, metric: Metric) -> Tensor:
    """Scores [B, I] of vectors [B, D] and [I, D]."""
    if metric == "dot":
        return queries @ items.T
    squares = queries.square().sum(1, keepdim=True) + items.square().sum(1)
    return torch.addmm(-squares, queries, items.T, alpha=2)


def _checked(kind: Kind, items: int, lists: int, probes: int) -> tuple[int, int]:
    if kind not in get_args(Kind):
        raise unknown_name("kind of index", str(kind), get_args(Kind))
    if kind != "ivf":
        if lists or probes:
            raise InputError(f"lists and probes belong to ivf; an index of kind {kind} has none")
        return 0, 0
    lists = lists or max(1, math.isqrt(items))
    probes = probes or max(1, lists // 10)
    if not 1 <= lists <= items:
        raise InputError(f"lists = {lists}: choose 1 to {items}, the number of items")
    if not 1 <= probes <= lists:
        raise InputError(f"probes = {probes}: choose 1 to {lists}, the number of lists")
    return lists, probes


def _file(kind: Kind) -> str:
    return "items.safetensors" if kind == "torch" else "items.faiss"


def _read(path: Path) -> Record:
    try:
        return Record.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"{path}: no such file; `recsys-zoo index RUN --out DIR` makes an index") from None
    except ValidationError:
        raise InputError(f"{path}: damaged, or of another version; make the index again") from None


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise InputError("this index needs faiss: pip install 'recsys-zoo[faiss-cpu]'; one of --kind torch "
                         "does without") from None
    return faiss
