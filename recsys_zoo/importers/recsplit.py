"""RecBole's eval_args as the [split] table of a schema, with what differs."""

from __future__ import annotations

from typing import Any

from ..errors import InputError
from .imported import Imported

_WHOLE = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": "user", "mode": "full"}
_NAMES = ("train", "valid", "test")
_TIES = (
    "split: moments are 32-bit numbers there, so that seconds of our years are told apart to 64 or 128 s "
    "(and ties go by the order of the file); here they are exact"
)


def split_of(options: dict[str, Any], raws: dict[str, str], found: Imported) -> dict[str, Any]:
    """The [split] table; raws: header names of the columns of .inter by their names.

    InputError for an eval_args that RecBole refuses too, and for a split by a column that is not loaded.
    """
    say = found.differences.append
    if options.get("benchmark_filename"):
        return {"method": "files"}
    asked = {**_WHOLE, **options["eval_args"]}
    method, value = _method(asked["split"])
    by_user, in_time = str(asked["group_by"]).lower() == "user", asked["order"] == "TO"
    for phase, mode in asked["mode"].items() if isinstance(asked["mode"], dict) else [("", asked["mode"])]:
        if mode != "labeled":
            of = f" of {phase}" if phase else ""
            say(f"eval_args mode{of} = {mode!r}: sampled or all items are scored there, rows alone here")
    moment = (
        _raw(raws, options["TIME_FIELD"], "TIME_FIELD", "the order TO") if in_time or method == "TS" else ""
    )
    scaled = options.get("normalize_all") or options["TIME_FIELD"] in (options.get("normalize_field") or ())
    if moment and not scaled:
        say(_TIES)
    if method == "LS":
        return _last_rows(value, raws, options, moment, say)
    shares = {name: part / sum(value) for name, part in zip(_NAMES, value, strict=True) if part}
    shares["train"] = 1 - sum(share for name, share in shares.items() if name != "train")
    if by_user and method == "RS" and in_time:
        user = _raw(raws, options["USER_ID_FIELD"], "USER_ID_FIELD", "group_by user")
        say(
            "split RS by user: users whose share is below one row give one there while rows are left; here "
            "shares are rounded down"
        )
        del shares["train"]
        return {"method": "user", "user": user, "column": moment, "last": shares}
    say(_why(method, by_user, in_time))
    rule = {"method": "time", "column": moment} if moment else {"method": "hash"}
    return rule | {"fractions": shares}


def _why(method: str, by_user: bool, in_time: bool) -> str:
    """How a split by shares differs."""
    if method == "TS":
        mixed = "" if in_time else "; with order RO the times that cut there belong to other rows of the user"
        return f"split TS: valid is cut by time as test is, there it is the last rows of each user{mixed}"
    if in_time:
        return "split RS in time order: rows of one moment stay together here, there the cut falls inside"
    return (
        "split RS at random: a fixed hash of the row number draws here, so other rows; shares of "
        f"{'each user' if by_user else 'all'} are exact there, here met on average over all rows"
    )


def _method(asked: Any) -> tuple[str, Any]:
    """RS, TS or LS and what stands behind it."""
    method, value = next(iter(asked.items())) if isinstance(asked, dict) and len(asked) == 1 else ("", None)
    shares = isinstance(value, list) and len(value) == 3 and all(isinstance(v, int | float) for v in value)
    if method == "LS" or (method in ("RS", "TS") and shares and sum(value) > 0):
        return method, value
    raise InputError(
        f"eval_args split = {asked!r}: write RS or TS with three shares, or LS, as RecBole has it"
    )


def _last_rows(
    value: Any, raws: dict[str, str], options: dict[str, Any], moment: str, say: Any
) -> dict[str, Any]:
    last = {"valid_and_test": {"valid": 1, "test": 1}, "valid_only": {"valid": 1}, "test_only": {"test": 1}}
    if value not in last:
        raise InputError(f"eval_args split LS = {value!r}: write one of {list(last)}")
    if not moment:
        say("split LS at random: the last rows in the order of the file are held out here")
    say("split LS: users with too few rows keep all in training; there they still give their last rows")
    user = _raw(raws, options["USER_ID_FIELD"], "USER_ID_FIELD", "split LS")
    return {"method": "user", "user": user, "column": moment, "last": last[value]}


def _raw(raws: dict[str, str], name: Any, setting: str, reason: str) -> str:
    if name not in raws:
        raise InputError(
            f"eval_args: {reason} needs the column {name!r} ({setting}), which load_col does not load; it "
            f"loads {list(raws)}"
        )
    return raws[name]
