"""RecBole's atomic files of a small shop, and configurations for them."""

from __future__ import annotations

from pathlib import Path

from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.importers.imported import write_imported
from recsys_zoo.importers.recbole import import_recbole

HEADER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\tprice:float\ttags:token_seq\tplace:token"
)
LOAD = "load_col:\n  inter: [user_id, item_id, rating, timestamp, price, tags, place]\n"
LABEL = "threshold: {rating: 4}\n"
TAGS, PLACES = ("a b c", "b", "", "c  a"), ("home", "NA", "work")


def rows() -> list[tuple[str, str, float, int, float | None, str, str]]:
    """Seven users with 1, 4, ..., 19 rows, moments in no order of the file, ratings about the threshold."""
    made = []
    for user in range(7):
        for k in range(1 + 3 * user):
            price = None if (user + k) % 5 == 0 else float(user * k % 11)
            moment = 100 + (k * 7 + user) % 23
            made.append(
                (
                    f"u{user}",
                    f"i{k % 6}",
                    (3.5, 4, 4.5)[(user + k) % 3],
                    moment,
                    price,
                    TAGS[k % 4],
                    PLACES[(user + k) % 3],
                )
            )
    return made


def bring(shop: Path, text: str = LOAD + LABEL, model: str = "FM"):
    path = shop / "config.yaml"
    path.write_text(f"data_path: {shop}\ndataset: shop\nmodel: {model}\n{text}", encoding="utf-8")
    return import_recbole([path])


def prepared(shop: Path, text: str):
    """What `prepare` makes of the imported schema: the data and their encoder."""
    write_imported(bring(shop, text), shop / "recipe.toml", shop / "schema.toml")
    data = prepare([shop / "shop" / "shop.inter"], DataSpec.load(shop / "schema.toml"), shop / "prepared")
    return data, Encoder.open(shop / "prepared" / "encoding")
