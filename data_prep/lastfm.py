"""Last.FM of HetRec 2011 in the division of LightGCN's code: who listened to which artist.

A fifth of each listener's artists is test. There is no validation part: a tenth of the training pairs is cut
off for it (by a hash of the pair, as of item_lists.py). How often somebody listened, and friends, are not
read.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from recsys_zoo.data.interactions import InteractionSpec
from recsys_zoo.data.spec import ColumnSpec, DataSpec, SplitSpec
from recsys_zoo.errors import InputError

from .download import file_md5
from .item_lists import cut_valid
from .recipe import Expected, Raw, Recipe, Say, read_table

if TYPE_CHECKING:
    import polars as pl

FILES = {"train": "data1.txt", "test": "test1.txt"}
MD5 = {"train": "e7c5c2fc3656d1ee36f9058c7171c91e", "test": "5a38560484bc7d4140827e97e290fec8"}
BY_HAND = ("get data1.txt and test1.txt from the folder data/lastfm of "
           "https://github.com/gusye1234/LightGCN-PyTorch")


def gather(raw: Path, scratch: Path, say: Say) -> Raw:
    """Pairs with their splits as one Parquet file, listeners and artists numbered from 0.

    raw: the published files (a line a pair: listener, artist, count, numbered from 1), or the same pairs as
    interactions.parquet.
    """
    import polars as pl

    if all((raw / file).is_file() for file in FILES.values()):
        parts = {split: _lines(raw / file) for split, file in FILES.items()}
        for split, file in FILES.items():
            md5 = file_md5(raw / file)
            same = "the published file" if md5 == MD5[split] else f"not the published file ({MD5[split]})"
            say(f"{file}: {same} (md5 {md5})")
    elif (raw / "interactions.parquet").is_file():
        table = read_table(raw / "interactions.parquet", ["user_id", "item_id", "split"])
        table = table.select(pl.col("user_id", "item_id").cast(pl.Int64), "split")
        parts = {split: table.filter(pl.col("split") == split).select(user="user_id", item="item_id")
                 for split in FILES}
        say(f"{raw}: pairs without the published files; they are counted")
    else:
        raise InputError(f"{raw}: has neither {' and '.join(FILES.values())} nor interactions.parquet; "
                         f"{BY_HAND}")
    parts = {split: frame.sort("user", "item") for split, frame in parts.items()}
    parts |= cut_valid(parts["train"], "lastfm")
    path = scratch / "pairs.parquet"
    pl.concat([frame.with_columns(split=pl.lit(name)) for name, frame in parts.items()]).write_parquet(path)
    return Raw(files=(path,))


def _lines(path: Path) -> pl.DataFrame:
    """user and item, from 0; InputError for a line that is not three whole numbers."""
    import polars as pl

    lines = pl.Series("line", path.read_text(encoding="ascii").split("\n"))
    parts = lines.filter(lines.str.strip_chars() != "").str.split("\t")
    numbers = pl.DataFrame({name: parts.list.get(place, null_on_oob=True).cast(pl.Int64, strict=False)
                            for place, name in enumerate(("user", "item", "count"))})
    wrong = numbers.select(pl.any_horizontal(pl.all().is_null())).to_series() | (parts.list.len() != 3)
    if wrong.any():
        raise InputError(f"{path}: row {wrong.arg_true()[0] + 1} is not a listener, an artist and a count; "
                         f"{BY_HAND}")
    return numbers.select(pl.col("user", "item") - 1)


RECIPE = Recipe(
    name="lastfm", title="Last.FM (HetRec 2011, the split of LightGCN's code): artists of listeners",
    terms="HetRec 2011 / last.fm: non-commercial use", by_hand=BY_HAND, sources=(), gather=gather,
    spec=DataSpec(
        dataset="lastfm", user="user", item="item", interactions=InteractionSpec(),
        columns=(ColumnSpec(name="user", side="user"), ColumnSpec(name="item", side="item")),
        split=SplitSpec(method="column", column="split")),
    expected=Expected(rows={"train+valid": 42_135, "test": 10_533}, positives={},
                      table_size=1_880 + 1 + 4_489 + 1))
