"""KuaiVideo_x1: clicks of 10,000 users on micro-videos, with the videos clicked and passed over before.

A history holds at most 100 videos, the first ones of the user. item_emb reads the video a second time, with
the visual vector of its thumbnail (64 wide) as pretrained row; all 3,242,315 vectors join its vocabulary, and
videos without one start from zeros. The published configurations freeze these rows (model.embedding.frozen =
["item_emb"]) and put a linear map behind them, which is not offered here. Rare videos of item_id are those
seen less than 10 times in the column and both histories together; the published table keeps what one of the
three alone holds 10 times, so its size differs. user_visual_emb_dim64.h5 of the archive is used by no
published configuration and not read.
"""

from __future__ import annotations

from recsys_zoo.data.spec import ColumnSpec

from .behaviour import history, recipes, videos

BOARD = videos(
    "KuaiVideo_x1",
    md5={"train": "16f13734411532cc313caf2180bfcd56", "test": "ba26c01caaf6c65c272af11aa451fc7a"},
    columns=(
        ColumnSpec(name="user_id", side="user", min_count=10),
        ColumnSpec(name="item_id", side="item", min_count=10),
        ColumnSpec(name="item_emb", source="item_id", side="item"),
        history("pos_items", "item_id", 100),
        history("neg_items", "item_id", 100),
        history("pos_items_emb", "item_emb", 100, source="pos_items"),
        history("neg_items_emb", "item_emb", 100, source="neg_items"),
    ),
    vectors={"item_emb": "item_visual_emb_dim64.h5"},
)

RECIPES = recipes(
    BOARD,
    title="KuaiVideo_x1 (BARS): micro-videos, 3 categorical columns, 4 histories and visual vectors",
    terms="no licence stated by its publisher RecZoo; the terms of Kuaishou's User Interest Modeling "
    "Challenge (China MM 2018) apply; cite Li et al. (MM 2019)",
    rows={"train": 10_931_092, "test": 2_730_291},
    vectors={"item_emb": 3_242_315},
)
