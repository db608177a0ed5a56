"""What to check before rankings are believed: repeated and shared pairs, cold users and items, later days.

Everything is counted on prepared splits. What a held-out row is held against is what the tested model is
fitted on: train for valid, train and valid for test; of users who are held out (data/spec.py), also what is
given of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from . import references
from .board.rows import Row
from .data.splitspec import given_of, rejected_of
from .data.store import Prepared
from .metrics.beyond import POPULAR, inequality, popular_share
from .schema import FIRST

PLACES = 20  # of the list whose end is looked at
GIVEN, REJECTED = given_of(""), rejected_of("")  # how the names of such splits end


def audit(data: Prepared, floors: Sequence[Row] = ()) -> dict[str, Any]:
    """The record of an audit, as plain JSON values; `warnings` says in sentences what should be looked at.

    floors: rows of these data that need no learning, where they are at hand; else they are counted here,
    where there are train, valid and test. InputError for data without train.
    """
    data.split("train")
    pairs = {name: _pairs(data, name) for name in data.names}
    reasons: list[str] = []
    splits = {name: _rows(data, pairs, name) for name in data.names}
    record: dict[str, Any] = {
        "kind": "ranking",
        "data_digest": data.data_digest,
        "dataset": data.schema.dataset,
        "label": "",
        "splits": splits,
        "users": _sides(pairs, 0, data.schema.size("user")),
        "items": _sides(pairs, 1, data.schema.size("item")),
        "popularity": _popularity(data),
        "order": _order(data, pairs),
        "floors": {row.label: _plain(row.metrics) for row in floors or _floors(data, reasons)},
        "no_floors": reasons,
    }
    record["warnings"] = list(_warnings(record))
    return record


def _floors(data: Prepared, reasons: list[str]) -> list[Row]:
    """Floors of these data, and in a sentence each why others are not there."""
    if not {"train", "valid", "test"} <= set(data.names):
        reasons.append("no floors: they take train, valid and test")
        return []
    return references.ranking_floors(data, "audit", replicates=0, say=reasons.append)


def _plain(metrics: dict[str, float]) -> dict[str, float]:
    """Without intervals and slices."""
    return {k: v for k, v in metrics.items() if "|" not in k and not k.endswith(("_low", "_high"))}


def fitted_before(names: Sequence[str], name: str) -> tuple[str, ...]:
    """The splits that a model knows when it ranks for the rows of one."""
    base = name.removesuffix(REJECTED)
    if given_of(base) in names:
        return ("train", given_of(base))
    before = ("train", "valid") if base == "test" else ("train",)
    return tuple(n for n in before if n in names)


def _pairs(data: Prepared, name: str) -> np.ndarray:
    """User and item of every row, numbered from 0: [rows, 2]."""
    places = data.schema.of_rows().id_slices()
    columns = [places[column].start for column in (data.schema.user, data.schema.item)]
    return data.split(name).ids[:, columns].astype(np.int64) - FIRST


def _keys(pairs: np.ndarray) -> np.ndarray:
    return (pairs[:, 0] << 32) | pairs[:, 1]


def _rows(data: Prepared, pairs: dict[str, np.ndarray], name: str) -> dict[str, Any]:
    """Counts of a split, repeated pairs, and what of it a model has met before."""
    own = pairs[name]
    facts: dict[str, Any] = {
        "rows": len(own),
        "users": len(np.unique(own[:, 0])),
        "items": len(np.unique(own[:, 1])),
        "repeated": len(own) - len(np.unique(_keys(own))),
    }
    if name == "train":
        return facts
    fitted = fitted_before(data.names, name)
    known = np.concatenate([pairs[n] for n in fitted])
    facts["fitted_on"] = list(fitted)
    facts["seen_pairs"] = float(np.isin(_keys(own), _keys(known)).mean())
    for place, side in enumerate(("user", "item")):
        new = ~np.isin(own[:, place], known[:, place])
        facts[f"rows_of_cold_{side}s"] = float(new.mean())
        facts[f"cold_{side}s"] = len(np.unique(own[new, place])) / facts[f"{side}s"]
    return facts


def _sides(pairs: dict[str, np.ndarray], place: int, count: int) -> dict[str, int]:
    """How many users (items) there are, have a training row, and have none in test, judged ones counted."""
    def having(*names: str) -> int:
        return len(set().union(*(pairs[name][:, place].tolist() for name in names if name in pairs)))

    tested = having("test", rejected_of("test"))
    return {"all": count, "in_train": having("train"), "without_test": count - tested}


def _popularity(data: Prepared) -> dict[str, float]:
    """How unevenly training rows fall on items, and how much of a ranking by popularity is left to chance."""
    train = data.lists("train")
    items = data.schema.size("item")
    counts = torch.bincount(train.items, minlength=items)
    equal = torch.bincount(counts).double()
    end = counts.sort(descending=True).values[min(PLACES, items) - 1]
    return {
        "gini": inequality(counts),
        "popular_share": popular_share(train.items[None], counts, len(train)),
        "tied_pairs": float((equal * (equal - 1)).sum() / max(items * (items - 1), 1)),
        "tied_at_the_end_of_the_list": int((counts == end).sum()),
    }


def _order(data: Prepared, pairs: dict[str, np.ndarray]) -> dict[str, Any]:
    """How the splits were made, and with moments, how far what is fitted reaches past held-out rows."""
    spec = data.record.get("spec", {})
    split, rule = spec.get("split", {}), spec.get("interactions") or {}
    facts: dict[str, Any] = {
        "split_method": split.get("method", "unknown"),
        "random": bool(split.get("random", False)) or split.get("method") == "hash",
        "core": [rule.get("user_core", 0), rule.get("item_core", 0)],
    }
    times = {name: data.split(name).time for name in data.names}
    if any(time is None for time in times.values()):
        return facts
    reach = ("older_than_the_latest_fitted", "older_than_own_fitted", "of_the_moment_of_own_fitted")
    facts |= {kind: {} for kind in reach}
    for name in data.names:
        if name == "train" or name.endswith(GIVEN):
            continue
        fitted = fitted_before(data.names, name)
        users = np.concatenate([pairs[n][:, 0] for n in fitted])
        moments = np.concatenate([times[n] for n in fitted])
        latest = np.full(data.schema.size("user"), -math.inf)
        np.maximum.at(latest, users, moments)
        own = times[name]
        facts["older_than_the_latest_fitted"][name] = float((own < moments.max()).mean())
        facts["older_than_own_fitted"][name] = float((own < latest[pairs[name][:, 0]]).mean())
        facts["of_the_moment_of_own_fitted"][name] = float((own == latest[pairs[name][:, 0]]).mean())
    return facts


def _warnings(record: dict[str, Any]) -> Iterator[str]:
    """What a careful reader should know, most harmful first."""
    order = record["order"]
    for name, facts in record["splits"].items():
        if facts.get("seen_pairs") and not name.endswith(REJECTED):
            known = " and ".join(facts["fitted_on"])
            judged = f"{name}{REJECTED}" in record["splits"]
            why = "what was judged is known" if judged else "they are masked and cannot be found"
            yield f"{facts['seen_pairs']:.1%} of the {name} rows are pairs of {known} too: {why}"
    for name, share in order.get("older_than_own_fitted", {}).items():
        if share > 0.001:
            yield (f"{share:.1%} of the {name} rows are older than a row of the same user that models are "
                   "fitted on: they know the user's later days")
    for name, share in order.get("of_the_moment_of_own_fitted", {}).items():
        if share > 0.01 and order["split_method"] == "user" and not order["random"]:
            yield (f"{share:.1%} of the {name} rows have the moment of the user's latest row before: which "
                   "of them was held out, the order of the files decided")
    for name, share in order.get("older_than_the_latest_fitted", {}).items():
        if share > 0.001:
            yield (f"{share:.1%} of the {name} rows are older than the latest row that models are fitted on: "
                   "they know what became popular later")
    if "older_than_own_fitted" not in order:
        rule = "rows were held out at random, and " * order["random"]
        yield f"{rule}no moments are kept: how much models know of later days is open"
    for name, facts in record["splits"].items():
        if facts["repeated"]:
            yield f"{facts['repeated']:,} of the {name} rows repeat a pair of user and item"
        for side in ("user", "item"):
            share = facts.get(f"rows_of_cold_{side}s", 0)
            if share > 0.01 and not name.endswith((REJECTED, GIVEN)):
                known = " and ".join(facts["fitted_on"])
                yield f"{share:.1%} of the {name} rows are of {side}s without a row in {known}"
    yield from _more(record)


def _more(record: dict[str, Any]) -> Iterator[str]:
    users, core, popularity = record["users"], record["order"]["core"], record["popularity"]
    left_out = [f"{side}s with fewer than {least}" for side, least in zip(("user", "item"), core, strict=True)
                if least > 1]
    if left_out:
        yield (f"{' and '.join(left_out)} pairs were left out, counted over all splits: held-out rows have a "
               "say in who is there")
    if users["without_test"] > 0.01 * users["all"]:
        yield (f"{users['without_test']:,} of {users['all']:,} users have no test row and are in no mean")
    if popularity["tied_at_the_end_of_the_list"] > PLACES:
        yield (f"{popularity['tied_at_the_end_of_the_list']:,} items are as popular as that at place "
               f"{PLACES}: popularity ranks them by chance")
    if popularity["popular_share"] > 0.5:
        yield (f"{popularity['popular_share']:.1%} of the train rows go to the most popular {POPULAR:.0%} of "
               "the items")
