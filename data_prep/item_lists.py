"""The top-k sets of BARS (..._m1): the items of each user, as one list for training and one for test.

Every published run learnt from the training lists alone and chose its epoch on the test lists; the two sets
that have validation lists besides (JSON files) left them out, and so do we. A tenth of the training pairs is
cut off for validation (`VALID`, by a hash of the pair, so that it never moves; the last pair of a user stays
in training); who wants the published protocol trains on both parts.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from recsys_zoo.data.interactions import InteractionSpec
from recsys_zoo.data.spec import ColumnSpec, DataSpec, SplitSpec
from recsys_zoo.errors import InputError

from .download import file_md5
from .recipe import Expected, Raw, Recipe, Say, read_table

if TYPE_CHECKING:
    import polars as pl

VALID = 0.1  # share of the training pairs
_HUB = "https://huggingface.co/datasets/reczoo"


@dataclass(frozen=True)
class Lists:
    """Facts of one published set; md5 of the files of its splits; form: text, or JSON."""

    name: str  # as BARS writes it
    title: str
    terms: str
    md5: dict[str, str]
    users: int
    items: int
    rows: dict[str, int]
    form: Literal["text", "json"] = "text"

    @property
    def files(self) -> dict[str, str]:
        """The published file of each split."""
        return {name: f"{name}_data.json" if self.form == "json" else f"{name}.txt" for name in self.md5}

    @property
    def by_hand(self) -> str:
        """Where the files are to be had."""
        return (f"get {self.name}.zip from {_HUB}/{self.name} and unpack {', '.join(self.files.values())} "
                "into one folder")

    def recipe(self) -> Recipe:
        """The recipe of the set."""
        name = self.name.lower()
        spec = DataSpec(
            dataset=name, user="user", item="item", interactions=InteractionSpec(),
            columns=(ColumnSpec(name="user", side="user"), ColumnSpec(name="item", side="item")),
            split=SplitSpec(method="column", column="split"))
        expected = Expected(rows=self.rows, positives={}, table_size=self.users + 1 + self.items + 1)
        return Recipe(name=name, title=self.title, terms=self.terms, by_hand=self.by_hand, sources=(),
                      spec=spec, expected=expected, gather=self._gather(name))

    def _gather(self, name: str) -> Callable[[Path, Path, Say], Raw]:
        def gather(raw: Path, scratch: Path, say: Say) -> Raw:
            """The published lists, or the same pairs as interactions.parquet; each split compared by MD5."""
            parts, note = self._read(raw, say)
            parts |= cut_valid(parts["train"], name)
            say(f"valid: {parts['valid'].height:,} training pairs, by a hash of user and item")
            import polars as pl

            path = scratch / "pairs.parquet"
            frames = [frame.with_columns(pl.lit(split).alias("split")) for split, frame in parts.items()]
            pl.concat(frames).write_parquet(path)
            return Raw(files=(path,), note=note)

        return gather

    def _read(self, raw: Path, say: Say) -> tuple[dict[str, pl.DataFrame], str]:
        """Pairs of each split there is, and the note for those that are not the published ones."""
        import polars as pl

        for folder in (raw, raw / self.name):
            paths = {split: folder / file for split, file in self.files.items()}
            if all(path.is_file() for path in paths.values()):
                found = {split: read_lists(path) for split, path in paths.items()}
                return found, self._compare({split: file_md5(path) for split, path in paths.items()}, say)
        path = raw / "interactions.parquet"
        if not path.is_file():
            raise InputError(f"{raw}: has neither {' and '.join(self.files.values())} nor "
                             f"interactions.parquet; {self.by_hand}")
        table = read_table(path, ["user_id", "item_id", "split"])
        pairs = table.select(pl.col("user_id", "item_id").cast(pl.Int64), "split")
        found = {split: pairs.filter(pl.col("split") == split).select(user="user_id", item="item_id")
                 for split in self.md5}
        form = as_json if self.form == "json" else as_text
        users = int(pairs["user_id"].max()) + 1
        digests = {split: hashlib.md5(form(frame, users).encode(), usedforsecurity=False).hexdigest()
                   for split, frame in found.items()}
        return found, self._compare(digests, say)

    def _compare(self, digests: dict[str, str], say: Say) -> str:
        changed = []
        for split, expected in self.md5.items():
            found = digests[split]
            if found == expected:
                say(f"{self.files[split]}: the published lists (md5 {found})")
            else:
                say(f"{self.files[split]}: not the published lists (md5 {found} instead of {expected})")
                changed.append(f"{split} is not the published file")
        return "; ".join(changed)


def cut_valid(train: pl.DataFrame, salt: str) -> dict[str, pl.DataFrame]:
    """train and valid: pairs whose hash is below VALID, but of no user all of them."""
    import polars as pl

    from recsys_zoo.data.split import hash_unit, held_by_hash

    keys = [train[name].cast(pl.String).to_numpy() for name in ("user", "item")]
    users = train["user"].rank("dense").to_numpy() - 1
    held = pl.Series(held_by_hash(users, hash_unit(keys, salt), VALID))
    return {"train": train.filter(~held), "valid": train.filter(held)}


def read_lists(path: Path) -> pl.DataFrame:
    """Pairs of a text file (a line a user: user item item ...) or a JSON file (a list of items a user)."""
    import numpy as np
    import polars as pl

    text = path.read_text(encoding="utf-8")
    try:
        if path.suffix == ".json":
            lists = dict(enumerate(json.loads(text)))
        else:
            lines = [[int(word) for word in line.split()] for line in text.splitlines()]
            lists = {line[0]: line[1:] for line in lines if line}
        users = np.repeat(np.fromiter(lists, np.int64), [len(items) for items in lists.values()])
        items = np.fromiter((item for items in lists.values() for item in items), np.int64)
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: not lists of item numbers ({error}); get the file again") from None
    return pl.DataFrame({"user": users, "item": items})


def as_text(pairs: pl.DataFrame, users: int) -> str:
    """The text file of these pairs: users in their order, each with its items."""
    lists = pairs.group_by("user", maintain_order=True).agg("item").iter_rows()
    return "".join(f"{user} {' '.join(map(str, items))}\n" for user, items in lists)


def as_json(pairs: pl.DataFrame, users: int) -> str:
    """The JSON file of these pairs: one list a user, empty ones too."""
    lists = dict(pairs.group_by("user", maintain_order=True).agg("item").iter_rows())
    return json.dumps([lists.get(user, []) for user in range(users)])


SETS = (
    Lists(
        name="Gowalla_m1", title="Gowalla_m1 (BARS, the split of LightGCN): check-ins",
        terms="SNAP loc-Gowalla: no licence stated; research use",
        md5={"train": "5eec1eb2edb8dd648377d348b8e136cf", "test": "c04e2c4bcd2389f53ed8281816166149"},
        users=29_858, items=40_981, rows={"train+valid": 810_128, "test": 217_242}),
    Lists(
        name="Yelp18_m1", title="Yelp18_m1 (BARS, the split of LightGCN): visits",
        terms="Yelp Open Dataset: academic and non-commercial use, no redistribution",
        md5={"train": "1b8b5d22a227e01d6de002c53d32b4c4", "test": "0d57d7399862c32152b045ec5d2698e7"},
        users=31_668, items=38_048, rows={"train+valid": 1_237_259, "test": 324_147}),
    Lists(
        name="AmazonBooks_m1", title="AmazonBooks_m1 (BARS, the split of LightGCN): reviews of books",
        terms="Amazon reviews (McAuley et al.): research use; no licence stated",
        md5={"train": "c916ecac04ca72300a016228258b41ed", "test": "30f8ccfea18d25007ba9fb9aba4e174d"},
        users=52_643, items=91_599, rows={"train+valid": 2_380_730, "test": 603_378}),
    Lists(
        name="AmazonCDs_m1", title="AmazonCDs_m1 (BARS, the split of BGCF): reviews of records",
        terms="Amazon reviews (McAuley et al.): research use; no licence stated",
        md5={"train": "2df6a35cac4373cf3eef95f75568da0a", "test": "d29acb66d0fb74bc3bc0791cbbce5cf2"},
        users=43_169, items=35_648, rows={"train+valid": 604_475, "test": 172_951}),
    Lists(
        name="AmazonElectronics_m1", title="AmazonElectronics_m1 (BARS, the split of NBPO): reviews",
        terms="Amazon reviews (McAuley et al.): research use; no licence stated",
        md5={"train": "ca71f3f5b9ada393ffd5490eba84c7db", "test": "7a0fa5d0da5dc5d5008da02b554ef688"},
        users=1_435, items=1_522, rows={"train+valid": 31_887, "test": 4_044}, form="json"),
    Lists(
        name="Movielens1M_m1", title="Movielens1M_m1 (BARS, the split of LCFN): ratings of films",
        terms="GroupLens: research use, no redistribution and no commercial use without permission",
        md5={"train": "4229bc5369f943918103daf7fd92e920", "test": "cdd3ad819512cb87dad2f098c8437df2"},
        users=6_022, items=3_043, rows={"train+valid": 796_244, "test": 99_455}, form="json"),
)
RECIPES = tuple(lists.recipe() for lists in SETS)
