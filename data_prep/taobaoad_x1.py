"""TaobaoAd_x1: display advertisements of eight days, with what users did before.

Test is the last day. Histories hold at most 50 values, the last ones are kept; zeros (no value) were dropped
from each of the three lists by itself, so the same place of two lists need not be the same action. btag is 1
in every row: the target only carries the row of its vocabulary that the actions share. The price is raw, as
in the published configuration. Rare values are those seen less than 10 times in the column and its history
together; the published tables keep what one of the two alone holds 10 times, so their sizes differ.

Validation rows are drawn by row: a user has some twenty on average, and one without training rows would be
unknown. The files name neither day nor time, so validation is nearer to training than test is.
"""

from __future__ import annotations

from recsys_zoo.data.spec import ColumnSpec, DataSpec

from .behaviour import Board, by_hash, history, recipes

USER = (
    "userid",
    "cms_segid",
    "cms_group_id",
    "final_gender_code",
    "age_level",
    "pvalue_level",
    "shopping_level",
    "occupation",
    "new_user_class_level",
)
ITEM = ("adgroup_id", "cate_id", "campaign_id", "customer", "brand")
HISTORIES = {"cate_his": "cate_id", "brand_his": "brand", "btag_his": "btag"}

SPEC = DataSpec(
    dataset="taobaoad_x1",
    labels=("clk",),
    group="userid",
    user="userid",
    item="adgroup_id",
    columns=(
        *(ColumnSpec(name=name, side="user", min_count=10) for name in USER),
        *(ColumnSpec(name=name, side="item", min_count=10) for name in ITEM),
        ColumnSpec(name="pid", min_count=10),
        ColumnSpec(name="btag", min_count=10),
        ColumnSpec(name="price", side="item", kind="numeric"),
        *(history(name, owner, 50) for name, owner in HISTORIES.items()),
    ),
)

BOARD = Board(
    folder="TaobaoAd_x1",
    spec=SPEC,
    md5={"train": "eaabfc8629f23519b04593e26c7522fc", "test": "f5ae6197e52385496d46e2867c1c8da1"},
    keys=("clk",),
    held=by_hash(0.1, "taobaoad_x1"),
    rule="10 % of the rows of train.csv, by the hash of the row number",
)

RECIPES = recipes(
    BOARD,
    title="TaobaoAd_x1 (BARS): display advertisements, 16 categorical columns, a price, 3 histories",
    terms="no licence stated by its publisher RecZoo; the terms of Alibaba's Tianchi data set 56 apply",
    rows={"train": 21_929_911, "test": 3_099_515},
)
