"""RecBole's atomic files: their columns, labels, splits and side files as our schema."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from recsys_zoo.errors import InputError

from .atoms import HEADER, LABEL, LOAD, bring, prepared, rows


def test_labels_tokens_bags_and_numbers_come_out_as_recbole_has_them(shop):
    """Against plain Python over the rows: >= threshold, the first values of a list, pandas' missing texts."""
    data, encoder = prepared(
        shop,
        LOAD + LABEL + "seq_len: {tags: 2}\nnumerical_features: [price]\n"
        "normalize_field: [price]\neval_args: {split: {RS: [8, 1, 1]}, order: TO, "
        "group_by: None, mode: labeled}\n",
    )
    got = []
    for name in ("train", "valid", "test"):
        split = data.split(name)
        inputs = split.inputs(slice(None))
        columns = [c.name for c in data.schema.of("categorical")]
        for k, label in enumerate(split.labels[:, 0].tolist()):
            tokens = [encoder.decode(c, inputs.ids[k, j : j + 1].numpy())[0] for j, c in enumerate(columns)]
            bag = [v for v in encoder.decode("tags", inputs.bags["tags"][k].numpy()) if v]
            got.append((*tokens, " ".join(bag), label, inputs.numeric[k, 0].item() == 0.0))
    assert columns == ["user_id", "item_id", "place"]
    known = {c: set(encoder.vocabularies[c].values) for c in (*columns, "tags")}
    expected = []
    for user, item, rating, _, price, tags, place in rows():
        tokens = [v if v in known[c] else None for c, v in zip(columns, (user, item, place), strict=True)]
        expected.append((*tokens, " ".join(tags.split()[:2]), float(rating >= 4), price is None))
    assert Counter(got) == Counter(expected)
    assert known["place"] == {"home", "work"}  # without NA


def recbole_user_split(shares: list[float]) -> dict[int, str]:
    """RecBole's rule by a loop: by moment (ties in file order) cut each user's rows, later parts down."""
    where = {}
    for user in {row[0] for row in rows()}:
        own = sorted((row[3], n) for n, row in enumerate(rows()) if row[0] == user)
        counts = [int(share * len(own)) for share in shares]
        counts[0] = len(own) - sum(counts[1:])
        names = [name for name, n in zip(("train", "valid", "test"), counts, strict=True) for _ in range(n)]
        where |= {n: name for (_, n), name in zip(own, names, strict=True)}
    return where


def test_the_split_by_user_in_time_holds_out_the_same_rows(shop):
    shares = [
        0.5,
        0.25,
        0.25,
    ]  # no user of the shop has a share strictly between 0 and 1 row but one of 1 row
    data, encoder = prepared(
        shop,
        LOAD + LABEL + f"eval_args: {{split: {{RS: {shares}}}, order: TO, group_by: user, mode: labeled}}\n",
    )
    where = recbole_user_split(shares)
    for name in ("train", "valid", "test"):
        ids = data.split(name).inputs(slice(None)).ids
        columns = [c.name for c in data.schema.of("categorical")]
        got = Counter(
            zip(*(encoder.decode(c, ids[:, j].numpy()) for j, c in enumerate(columns)), strict=True)
        )
        own = [row for n, row in enumerate(rows()) if where[n] == name]
        assert got == Counter((r[0], r[1], None if r[6] == "NA" else r[6]) for r in own)


USER = {"method": "user", "user": "user_id:token"}
TIME = "timestamp:float"


@pytest.mark.parametrize(
    ("asked", "split", "said"),
    [
        (
            "split: {RS: [6, 2, 2]}, order: RO, group_by: None",
            {"method": "hash"},
            "a fixed hash of the row number",
        ),
        ("split: {RS: [6, 2, 2]}", {"method": "hash"}, "shares of each user are exact there"),
        (
            "split: {RS: [6, 2, 2]}, order: TO, group_by: none",
            {"method": "time", "column": TIME},
            "stay together",
        ),
        ("split: {TS: [6, 2, 2]}, order: TO", {"method": "time", "column": TIME}, "split TS"),
        ("split: {TS: [6, 2, 2]}", {"method": "time", "column": TIME}, "with order RO the times"),
        (
            "split: {RS: [6, 2, 2]}, order: TO",
            {**USER, "column": TIME, "last": {"valid": 0.2, "test": 0.2}},
            "split RS by user",
        ),
        (
            "split: {LS: valid_and_test}, order: TO",
            {**USER, "column": TIME, "last": {"valid": 1, "test": 1}},
            "too few rows",
        ),
        (
            "split: {LS: test_only}, order: RO",
            {**USER, "column": "", "last": {"test": 1}},
            "in the order of the file",
        ),
        ("mode: uni100", {"method": "hash"}, "mode = 'uni100'"),
        ("mode: {valid: labeled, test: full}", {"method": "hash"}, "mode of test = 'full'"),
    ],
)
def test_splits(shop, asked, split, said):
    found = bring(
        shop,
        LOAD + LABEL + f"eval_args: {{mode: labeled, {asked}}}\n"
        if "mode" not in asked
        else LOAD + LABEL + f"eval_args: {{{asked}}}\n",
    )
    made = found.schema["split"]
    assert {key: made[key] for key in split} == split
    assert any(said in line for line in found.differences)
    shares = made.get("fractions")
    if shares and "6, 2, 2" in asked:
        assert shares == pytest.approx({"train": 0.6, "valid": 0.2, "test": 0.2})


def test_given_splits_are_files(shop):
    for part in ("one", "two"):
        (shop / "shop" / f"shop.{part}.inter").write_text(HEADER + "\n", encoding="utf-8")
    found = bring(shop, LOAD + LABEL + "benchmark_filename: [one, two]\n")
    assert found.schema["split"] == {"method": "files"}
    assert found.prepare == f"{shop}/shop/shop.one.inter --split valid={shop}/shop/shop.two.inter"


def test_only_what_recbole_loads_and_uses_is_an_input(shop):
    def names(text: str) -> list[str]:
        return [c["name"] for c in bring(shop, LABEL + text).schema["columns"]]

    assert names("load_col: {inter: '*'}\n") == ["user_id", "item_id", "tags", "place"]
    assert names("load_col: null\nunload_col: {inter: [tags]}\n") == ["user_id", "item_id", "place"]
    assert names(LOAD + "unused_col: {inter: [place]}\n") == ["user_id", "item_id", "tags"]
    assert names(LOAD + "numerical_features: [price]\n") == ["user_id", "item_id", "price", "tags", "place"]
    found = bring(shop, LABEL + "load_col: {inter: [user_id, item_id, rating, colour]}\n")
    assert "load_col: .inter has no column 'colour'; it is passed over, as there" in found.differences


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", {"kind": "numeric", "rule": "linear"}),
        ("normalize_all: True\n", {"kind": "numeric", "rule": "standardise"}),
        (
            "discretization: {price: {method: ED, bucket: 5}}\n",
            {"kind": "categorical", "rule": "quantile", "bins": 5},
        ),
        ("discretization: {price: {method: LD}}\n", {"kind": "categorical", "rule": "log_square"}),
    ],
)
def test_numbers(shop, text, rule):
    found = bring(shop, LOAD + LABEL + "numerical_features: [price]\n" + text)
    column = next(c for c in found.schema["columns"] if c["name"] == "price")
    assert {key: column[key] for key in rule} == rule
    assert any(line.startswith("column 'price': ") for line in found.differences)


def test_a_header_that_is_none(shop):
    path = shop / "shop" / "shop.inter"
    path.write_text("user_id:token\tage:number\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"shop\.inter: the header has 'age:number'; write NAME:TYPE"):
        bring(shop)


def test_a_mark_in_front_of_the_header_is_no_part_of_a_name(shop):
    whole, path = bring(shop), shop / "shop" / "shop.inter"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert bring(shop) == whole
    assert prepared(shop, LOAD + LABEL)[0].schema.user == "user_id"


USERS = {
    "u1": ("3", "x y"),
    "u2": ("", "y"),
    "u3": ("5", ""),
    "u4": ("7", "z"),
    "u5": ("7", "x"),
    "u6": ("9", "x z"),
}
SIDES = (
    "load_col: {inter: [user_id, item_id, rating, timestamp], user: [user_id, level, likes], "
    "item: [item_id]}\nnumerical_features: [level]\n"
    "eval_args: {split: {RS: [8, 1, 1]}, order: TO, group_by: None, mode: labeled}\n"
)


def sides(shop: Path) -> None:
    """A .user file without u0, and an .item file of which nothing but the key is loaded."""
    lines = [f"{user}\t{level}\t{likes}\t1" for user, (level, likes) in USERS.items()]
    text = "\n".join(["user_id:token\tlevel:float\tlikes:token_seq\tpin:token", *lines]) + "\n"
    (shop / "shop" / "shop.user").write_text(text, encoding="utf-8")
    (shop / "shop" / "shop.item").write_text("item_id:token\tkind:token\ni1\ta\n", encoding="utf-8")


def test_side_files_are_joined_by_their_key(shop):
    """Against a dictionary from user to attributes."""
    sides(shop)
    data, encoder = prepared(shop, LABEL + SIDES)
    assert [c.name for c in data.schema.columns] == ["user_id", "item_id", "level", "likes"]
    assert {c.name: c.side for c in data.schema.columns}["likes"] == "user"
    got = Counter()
    for name in ("train", "valid", "test"):
        x = data.split(name).inputs(slice(None))
        users = encoder.decode("user_id", x.ids[:, 0].numpy())
        for user, level, bag in zip(users, x.numeric[:, 0].tolist(), x.bags["likes"].numpy(), strict=True):
            got[user, level, " ".join(v for v in encoder.decode("likes", bag) if v)] += 1
    known = set(encoder.vocabularies["user_id"].values)
    expected = Counter()
    for row in rows():
        level, likes = USERS.get(row[0], ("", ""))
        expected[row[0] if row[0] in known else None, float(level or 0), likes] += 1
    assert got == expected


def test_what_is_said_of_side_files(shop):
    sides(shop)
    found = bring(shop, LABEL + SIDES)
    (table,) = found.schema["tables"]  # .item brings no input
    assert (table["key"], table["columns"]) == ("user_id:token", ["level:float", "likes:token_seq"])
    said = "\n".join(found.differences)
    for piece in (
        "rows whose user or item is in no side file are dropped there",
        "a key that a side file has twice",
        "column 'level': missing is the mean of the whole column there, here 0",
    ):
        assert piece in said
    with pytest.raises(InputError, match=r"shop\.user: its key 'user_id' \(USER_ID_FIELD\) is not among"):
        bring(shop, LABEL + SIDES.replace("user: [user_id, ", "user: ["))
    twice = SIDES.replace("likes]", "likes], unused: []").replace(
        ", item: [item_id]", ", item: [item_id, kind]"
    )
    (shop / "shop" / "shop.item").write_text("item_id:token\tlikes:token\n", encoding="utf-8")
    found = bring(shop, LABEL + twice.replace("kind", "likes"))
    assert "column 'likes' of .item: an earlier file has it too; it is left out" in found.differences
