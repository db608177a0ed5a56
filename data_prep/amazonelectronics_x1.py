"""AmazonElectronics_x1: will a user review this item after those, DIN's data with sampled negatives.

Test holds the last item of each user, train the earlier ones; the user is no input and groups the rows of
gAUC. Of a history the first 100 values are kept, as the published configuration does it (it pads behind; here
the values stand at the end, which a mask makes equal). Validation rows are those of whole users, so that no
history of a training row shows what is asked of a validation row.
"""

from __future__ import annotations

from recsys_zoo.data.spec import ColumnSpec, DataSpec

from .behaviour import Board, by_hash, history, recipes

HISTORIES = {"item_history": "item_id", "cate_history": "cate_id"}

SPEC = DataSpec(
    dataset="amazonelectronics_x1",
    labels=("label",),
    group="user_id",
    item="item_id",
    columns=(
        ColumnSpec(name="item_id", side="item"),
        ColumnSpec(name="cate_id", side="item"),
        *(history(name, owner, 100) for name, owner in HISTORIES.items()),
    ),
)

BOARD = Board(
    folder="AmazonElectronics_x1",
    spec=SPEC,
    first=tuple(HISTORIES),
    md5={"train": "e9bf80b92985e463db18fdc753d347b5", "test": "57a20e82fe736dd495f2eaf0669bf6d0"},
    keys=("user_id",),
    held=by_hash(0.05, "amazonelectronics_x1", "user_id"),
    rule="5 % of the users of train.csv, by the hash of user_id",
)

RECIPES = recipes(
    BOARD,
    title="AmazonElectronics_x1 (BARS): reviews of items, 2 categorical columns and 2 histories",
    terms="no licence stated by its publisher RecZoo; the terms of the Amazon reviews of UCSD apply; cite "
    "McAuley et al. (2015) and Zhou et al. (KDD 2018)",
    # by construction half of the rows are positive, in test one of the two of each of 192,403 users
    rows={"train": 2_608_764, "test": 384_806},
    positives={"train": 1_304_382, "test": 192_403},
    table_size=63_804,
)  # 63,001 items, 801 categories and two unknown rows
