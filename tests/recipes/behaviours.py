"""Small files of the four boards of behaviour sequences, and a plain reading of them to compare with."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from data_prep import amazonelectronics_x1, kuaivideo_x1, microvideo17m_x1, taobaoad_x1

DIM = 4
Row = dict[str, str]
Files = dict[str, list[Row]]


def walk(rng: np.random.Generator, values: int, most: int) -> list[str]:
    """A history, which may be empty."""
    return [str(v) for v in rng.zipf(1.5, rng.integers(0, most + 1)) % values]


def amazon(rng: np.random.Generator) -> Files:
    """Every user has one row of each label in test, and histories longer than 100 in both files."""
    files: Files = {"train": [], "test": []}
    for user in range(60):
        for name, steps in (("train", rng.integers(1, 4)), ("test", 1)):
            for step in range(steps):
                items = walk(rng, 30, 130 if user % 7 == 0 else 5) if user + step else []
                for label in ("1", "0"):
                    item = int(rng.zipf(1.5) % 40)
                    categories = [str(int(i) % 5) for i in items]
                    files[name].append(
                        {
                            "label": label,
                            "user_id": str(user),
                            "item_id": str(item),
                            "cate_id": str(item % 5),
                            "item_history": "^".join(items),
                            "cate_history": "^".join(categories),
                        }
                    )
    rng.shuffle(files["train"])
    return files


def taobao(rng: np.random.Generator) -> Files:
    """Zeros for missing profiles, prices as pandas writes them, actions 1 to 4."""
    files: Files = {}
    for name, rows in (("train", 400), ("test", 60)):
        files[name] = [
            {
                "clk": str(int(k % 3 == 0)),
                "btag_his": "^".join(str(1 + int(v) % 4) for v in walk(rng, 9, 50)),
                "cate_his": "^".join(walk(rng, 30, 50)),
                "brand_his": "^".join(walk(rng, 40, 8)),
                "userid": str(rng.integers(0, 30)),
                **{c: str(rng.integers(0, 4)) for c in taobaoad_x1.USER[1:]},
                "adgroup_id": str(rng.integers(0, 50)),
                "cate_id": str(rng.integers(0, 12)),
                "campaign_id": str(rng.zipf(1.5) % 20),
                "customer": str(rng.zipf(1.5) % 20),
                "brand": str(rng.integers(0, 60)),
                "price": f"{rng.integers(1, 900) / 10}",
                "pid": f"430548_100{rng.integers(0, 2)}",
                "btag": "1",
            }
            for k in range(rows)
        ]
    return files


def kuai(rng: np.random.Generator) -> Files:
    """Sorted by time, which has ties; histories are the user's first videos."""
    files: Files = {}
    for name, rows in (("train", 500), ("test", 60)):
        times = np.sort(rng.integers(0, 90, rows))
        files[name] = [
            {
                "timestamp": str(t),
                "user_id": str(rng.integers(0, 6)),
                "item_id": str(rng.zipf(1.3) % 50),
                "is_click": str(int(k % 3 == 0)),
                "is_like": "0",
                "is_follow": "0",
                "pos_items": "^".join(walk(rng, 60, 100)),
                "neg_items": "^".join(walk(rng, 60, 12)),
            }
            for k, t in enumerate(times)
        ]
    return files


def micro(rng: np.random.Generator) -> Files:
    """Sorted by user and time; the videos of test are new; up to 128 clicks, of which 100 are kept."""
    files: Files = {}
    for name, rows, first in (("train", 500, 0), ("test", 60, 50)):
        users, times = np.sort(rng.integers(0, 6, rows)), rng.integers(1000, 9000, rows)
        files[name] = []
        for k, user in enumerate(users):
            items, item = walk(rng, 45, 128 if k % 9 == 0 else 6), first + int(rng.integers(0, 40))
            files[name].append(
                {
                    "user_id": str(user),
                    "item_id": str(item),
                    "cate_id": str(item % 7),
                    "is_click": str(int(k % 3 == 0)),
                    "timestamp": str(times[k]),
                    "clicked_items": "^".join(items),
                    "clicked_categories": "^".join(str(int(i) % 7) for i in items),
                }
            )
    return files


def fnv(text: str) -> float:
    """The number in [0, 1) of a text, from the definition of the hash."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return ((state ^ state >> 31) >> 11) / 2**53


def amazon_valid(rows: list[Row]) -> set[int]:
    return {k for k, row in enumerate(rows) if fnv(f"amazonelectronics_x1\x1f{row['user_id']}\x1f") >= 0.95}


def taobao_valid(rows: list[Row]) -> set[int]:
    return {k for k in range(len(rows)) if fnv(f"taobaoad_x1\x1f{k}\x1f") >= 0.9}


def latest_valid(rows: list[Row]) -> set[int]:
    """The latest twentieth of each user, rounded down, later lines last among equal times."""
    held: set[int] = set()
    for user in {row["user_id"] for row in rows}:
        own = sorted((float(row["timestamp"]), k) for k, row in enumerate(rows) if row["user_id"] == user)
        held |= {k for _, k in own[len(own) - len(own) // 20 :]}
    return held


@dataclass(frozen=True)
class Case:
    """One board as the test understands it: what is read where, written by hand from the published files."""

    module: object
    make: object
    valid: object
    label: str
    group: str
    single: dict[str, str]  # column -> source
    lists: dict[str, tuple[str, str]]  # column -> (source, owner of the vocabulary)
    length: int
    head: bool = False  # the first values are kept
    min_count: int = 1
    numeric: tuple[str, ...] = ()
    vectors: dict[str, str] = field(default_factory=dict)  # column -> file

    def files(self) -> Files:
        return self.make(np.random.default_rng(5))

    def kept(self, text: str) -> list[str]:
        values = text.split("^") if text else []
        return values[: self.length] if self.head else values[-self.length :]


def alike(names: tuple[str, ...] | list[str]) -> dict[str, str]:
    return {name: name for name in names}


CASES = {
    "amazonelectronics_x1": Case(
        amazonelectronics_x1,
        amazon,
        amazon_valid,
        "label",
        "user_id",
        alike(["item_id", "cate_id"]),
        {"item_history": ("item_history", "item_id"), "cate_history": ("cate_history", "cate_id")},
        100,
        head=True,
    ),
    "taobaoad_x1": Case(
        taobaoad_x1,
        taobao,
        taobao_valid,
        "clk",
        "userid",
        alike([*taobaoad_x1.USER, *taobaoad_x1.ITEM, "pid", "btag"]),
        {
            "cate_his": ("cate_his", "cate_id"),
            "brand_his": ("brand_his", "brand"),
            "btag_his": ("btag_his", "btag"),
        },
        50,
        min_count=10,
        numeric=("price",),
    ),
    "kuaivideo_x1": Case(
        kuaivideo_x1,
        kuai,
        latest_valid,
        "is_click",
        "user_id",
        {**alike(["user_id", "item_id"]), "item_emb": "item_id"},
        {
            "pos_items": ("pos_items", "item_id"),
            "neg_items": ("neg_items", "item_id"),
            "pos_items_emb": ("pos_items", "item_emb"),
            "neg_items_emb": ("neg_items", "item_emb"),
        },
        100,
        min_count=10,
        vectors={"item_emb": "item_visual_emb_dim64.h5"},
    ),
    "microvideo1.7m_x1": Case(
        microvideo17m_x1,
        micro,
        latest_valid,
        "is_click",
        "user_id",
        alike(["user_id", "item_id", "cate_id"]),
        {
            "clicked_items": ("clicked_items", "item_id"),
            "clicked_categories": ("clicked_categories", "cate_id"),
        },
        100,
        vectors={"item_id": "item_image_emb_dim64.h5"},
    ),
}
KEYS = [k for k in range(95) if k % 8 != 3]  # some videos have no vector, some vectors no video


def matrix() -> np.ndarray:
    return np.random.default_rng(8).normal(size=(len(KEYS), DIM))


def write(folder: Path, case: Case) -> Path:
    folder.mkdir(parents=True)
    for split, rows in case.files().items():
        with open(folder / f"{split}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    for file in case.vectors.values():
        with h5py.File(folder / file, "w") as store:
            store["key"], store["value"] = KEYS, matrix()
    return folder


def splits_of(name: str) -> Files:
    """The rows of each split of a recipe, from the files and the rule alone."""
    case = CASES[name.removesuffix("_published")]
    files = case.files()
    if name.endswith("_published"):
        return {"train": files["train"], "valid": files["test"], "test": files["test"]}
    held = case.valid(files["train"])
    return {
        "train": [row for k, row in enumerate(files["train"]) if k not in held],
        "valid": [row for k, row in enumerate(files["train"]) if k in held],
        "test": files["test"],
    }


def vocabularies(case: Case, train: list[Row]) -> dict[str, set[str]]:
    counts = {column: Counter(row[source] for row in train) for column, source in case.single.items()}
    for source, owner in case.lists.values():
        for row in train:  # values that are cut off count too, unless the recipe cuts before
            text = "^".join(case.kept(row[source])) if case.head else row[source]
            counts[owner].update(filter(None, text.split("^")))
    least = dict.fromkeys(counts, case.min_count) | dict.fromkeys(case.vectors, 1)
    known = {column: {v for v, n in found.items() if n >= least[column]} for column, found in counts.items()}
    return known | {column: known[column] | {str(k) for k in KEYS} for column in case.vectors}
