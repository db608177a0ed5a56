"""CiteULike-t and -a: articles in the libraries of readers, with tags (and words) of the articles.

Each in three divisions. citeulike_t, citeulike_a: of readers with five articles or more, a fifth of each
one's articles is held out for validation and a fifth for test (the shares of Hsieh et al., WWW 2017, by our
own hash). ..._cold: a tenth of all articles is held out for either, and nobody is seen with one in training.
..._users: a tenth of these readers is held out for either with all their articles, of which four fifths are
given, as the users of Liang et al. (WWW 2018) are; which ones, a hash says.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.interactions import InteractionSpec
from recsys_zoo.data.spec import ColumnSpec, DataSpec, SplitSpec, TableSpec
from recsys_zoo.errors import InputError

from .recipe import Expected, Raw, Recipe, Say, held_out_users

if TYPE_CHECKING:
    import polars as pl

_ITEMS = "items.parquet"


@dataclass(frozen=True)
class Library:
    """Facts of one set: its files, and how many pairs and pairs of readers with five articles it has."""

    name: str
    tag_file: str
    tags_of_items: bool  # a line of the tag file lists the tags of an item, else the items of a tag
    words: bool
    users: int
    items: int
    pairs: int
    pairs_of_five: int

    @property
    def by_hand(self) -> str:
        """Where the files are to be had."""
        files = ["users.dat", self.tag_file, *["mult.dat"] * self.words]
        return f"get {' and '.join(files)} from https://github.com/js05212/{self.name}"

    def recipes(self) -> tuple[Recipe, Recipe, Recipe]:
        """Held-out articles of every reader; held-out articles of all; held-out readers."""
        own = self.name.replace("-", "_")
        warm = SplitSpec(method="user", user="user", random=True, keys=("user", "item"), salt=own,
                         last={"valid": 0.2, "test": 0.2})
        cold = SplitSpec(method="hash", keys=("item",), salt=own,
                         fractions={"train": 0.8, "valid": 0.1, "test": 0.1})
        of_five = InteractionSpec(user_core=5)
        return (self._recipe(own, warm, of_five, self.pairs_of_five, "articles of every reader"),
                self._recipe(f"{own}_cold", cold, InteractionSpec(), self.pairs,
                             "articles in no training row"),
                self._recipe(f"{own}_users", held_out_users(own), of_five, self.pairs_of_five,
                             "readers in no training row"))

    def _recipe(self, name: str, split: SplitSpec, rule: InteractionSpec, pairs: int, what: str) -> Recipe:
        features = ("tags", *["words"] * self.words)
        columns = (ColumnSpec(name="user", side="user"), ColumnSpec(name="item", side="item"),
                   *(ColumnSpec(name=c, side="item", kind="bag", min_count=5) for c in features))
        spec = DataSpec(dataset=name, user="user", item="item", columns=columns, split=split,
                        interactions=rule,
                        tables=(TableSpec(files=(_ITEMS,), key="item", columns=features),))
        return Recipe(
            name=name, title=f"{self.name}: articles in the libraries of readers; held out: {what}",
            terms="no licence stated; research use; cite Wang, Chen and Li (2013)", by_hand=self.by_hand,
            sources=(), spec=spec, gather=self._gather,
            expected=Expected(rows={"+".join(split.splits): pairs}, positives={}))

    def _gather(self, raw: Path, scratch: Path, say: Say) -> Raw:
        """The published files, or the same as interactions.parquet and items.parquet."""
        import polars as pl

        if (raw / "users.dat").is_file():
            pairs, items = self._published(raw)
        elif (raw / "interactions.parquet").is_file() and (raw / _ITEMS).is_file():
            pairs = pl.read_parquet(raw / "interactions.parquet").select(user="user_id", item="item_id")
            names = {"item": "item_id", "tags": "tag_ids", **({"words": "word_ids"} if self.words else {})}
            items = pl.read_parquet(raw / _ITEMS).select(**names)
        else:
            raise InputError(f"{raw}: has neither users.dat nor interactions.parquet; {self.by_hand}")
        say(f"{raw}: no checksum is published; the number of users, articles and pairs is checked")
        found = (pairs["user"].n_unique(), items.height)
        if found != (self.users, self.items):
            raise InputError(f"{raw}: {found[0]:,} users and {found[1]:,} articles instead of "
                             f"{self.users:,} and {self.items:,}; {self.by_hand}")
        pairs.write_parquet(scratch / "pairs.parquet")
        items.write_parquet(scratch / _ITEMS)
        return Raw(files=(scratch / "pairs.parquet",), tables_from=scratch)

    def _published(self, raw: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
        import polars as pl

        pairs = _lines(raw / "users.dat", self.by_hand).rename({"line": "user", "value": "item"})
        tags = _lines(raw / self.tag_file, self.by_hand)
        names = ("item", "tag") if self.tags_of_items else ("tag", "item")
        tags = tags.rename(dict(zip(("line", "value"), names, strict=True)))
        items = pl.DataFrame({"item": range(self.items)}, schema={"item": pl.Int64})
        features = {"tags": tags.select("item", value="tag")}
        if self.words:
            features["words"] = _lines(raw / "mult.dat", self.by_hand).rename({"line": "item"})
        for name, values in features.items():
            lists = values.group_by("item", maintain_order=True).agg(pl.col("value").alias(name))
            items = items.join(lists, on="item", how="left")
        return pairs, items


def _lines(path: Path, by_hand: str) -> pl.DataFrame:
    """Columns line (from 0) and value: numbers behind the first of a line, which counts them; n of n:m."""
    import polars as pl

    if not path.is_file():
        raise InputError(f"{path}: no such file; {by_hand}")
    lines = path.read_text(encoding="ascii").splitlines()
    table = pl.DataFrame({"line": range(len(lines)), "words": [line.split() for line in lines]},
                         schema={"line": pl.Int64, "words": pl.List(pl.String)})
    counts = table["words"].list.first().cast(pl.Int64, strict=False)
    wrong = (counts.is_null() | (counts != table["words"].list.len().cast(pl.Int64) - 1)).arg_true()
    if len(wrong):
        raise InputError(f"{path}, line {wrong[0] + 1}: does not begin with the number of its values; "
                         f"{by_hand}")
    values = table.select("line", value=pl.col("words").list.slice(1)).explode("value").drop_nulls()
    return values.with_columns(pl.col("value").str.extract(r"^(\d+)").cast(pl.Int64))


SETS = (
    Library(name="citeulike-t", tag_file="tag-item.dat", tags_of_items=False, words=True, users=7_947,
            items=25_975, pairs=134_860, pairs_of_five=125_580),
    Library(name="citeulike-a", tag_file="item-tag.dat", tags_of_items=True, words=False, users=5_551,
            items=16_980, pairs=204_986, pairs_of_five=204_986),
)
RECIPES = tuple(recipe for library in SETS for recipe in library.recipes())
