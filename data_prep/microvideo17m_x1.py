"""MicroVideo1.7M_x1: clicks of 10,986 users on micro-videos; every video of test is new.

Histories hold at most 128 clicks in the files, the last 100 are kept. Videos have no learnt row but the
vector of their cover image (64 wide, by PCA), pretrained rows of item_id that target and history share: all
1,704,880 vectors join the vocabulary, the ones of the test videos too. The published configurations freeze
these rows (model.embedding.frozen = ["item_id"]) and put a linear map behind them, which is not offered here.

Unlike the videos of test, those of the validation rows can occur in training.
"""

from __future__ import annotations

from recsys_zoo.data.spec import ColumnSpec

from .behaviour import history, recipes, videos

BOARD = videos(
    "MicroVideo1.7M_x1",
    md5={"train": "936e6612714c887e76226a60829b4e0a", "test": "9417a18304fb62411ac27c26c5e0de56"},
    columns=(
        ColumnSpec(name="user_id", side="user"),
        ColumnSpec(name="item_id", side="item"),
        ColumnSpec(name="cate_id", side="item"),
        history("clicked_items", "item_id", 100),
        history("clicked_categories", "cate_id", 100),
    ),
    vectors={"item_id": "item_image_emb_dim64.h5"},
)

RECIPES = recipes(
    BOARD,
    title="MicroVideo1.7M_x1 (BARS): micro-videos, 3 categorical columns, 2 histories, image vectors",
    terms="no licence stated by its publisher RecZoo; the terms of THACIL's authors apply; cite Chen et al. "
    "(MM 2018)",
    rows={"train": 8_970_309, "test": 3_767_308},
    vectors={"item_id": 1_704_880},
    table_size=1_716_381,
)  # 10,986 users, 1,704,880 videos, 512 categories and three unknown rows
