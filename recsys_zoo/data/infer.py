"""A first schema file for unknown data: guesses with their reasons as comments, to be edited by hand."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from ..errors import InputError
from .read import column_names, read_chunks
from .spec import ReadSpec, TableSpec
from .tables import Table, join
from .values import Chunk, as_text, as_times, to_float

SAMPLE_ROWS = 100_000

_LABELS = {"label", "labels", "target", "y", "click", "clicked", "is_click", "conversion", "converted",
           "purchase", "buy", "bought", "like", "liked", "is_like", "response"}
_RATINGS = {"rating", "ratings", "stars", "score"}
_USERS = {"user", "user_id", "userid", "uid", "customer", "customer_id", "member", "member_id", "visitor_id",
          "visitorid", "reviewer_id", "reviewerid"}
_ITEMS = {"item", "item_id", "itemid", "iid", "movie", "movie_id", "movieid", "product", "product_id", "ad",
          "ad_id", "article_id", "app_id", "song_id", "video_id", "news_id", "asin", "parent_asin",
          "artist_id", "track_id", "book_id", "business_id", "location_id", "listing_id", "sku"}
_USER_SIDE = {"gender", "sex", "age", "occupation", "zip", "zipcode"}
_ITEM_SIDE = {"genre", "genres", "brand", "price", "category", "categories", "title", "tags", "year"}
_SEQUENCES = ("hist", "seq", "sequence", "history", "clicked_items", "last_items")
_WEIGHTS = {"weight", "sample_weight", "weights", "w"}
_YEARS = tuple(float(np.datetime64(year, "s").astype(np.int64)) for year in ("1990", "2040"))  # in seconds


@dataclass
class Guess:
    """What a column seems to be: a kind, or label, rating, split, time, weight or skip; why; settings."""

    name: str
    role: str
    why: str
    settings: dict[str, str | int | float]
    binary: bool = False
    side: str = ""  # user, item or context, where that does not go by the name
    named: bool = True  # the role goes by the name, not by the values alone


def infer_spec(files: Sequence[Path | str], tables: Sequence[Path | str] = (), folder: Path | str = ".",
               interactions: bool = False) -> str:
    """The text of a schema file (TOML) for these files, drafted from the first rows of the first file.

    Valid input for `DataSpec.load`; each guess has its reason as a comment. tables: files of side tables,
    each with one column (its key) in common with the files; folder: where the schema file will lie.
    interactions: draft rankings of items; so it is too where users and items are there and nothing looks
    like a label or rating. InputError where there is nothing to learn from.
    """
    paths = [Path(f) for f in files]
    if not paths:
        raise InputError("no file is given")
    read = ReadSpec()
    names = column_names(paths[0], read)
    sample = next(read_chunks(paths[0], names, read, SAMPLE_ROWS))
    guesses = [_guess(sample, name) for name in names]
    joined = [_key_of(Path(file), names, paths[0]) for file in tables]
    for spec in joined:
        chunk, _ = join(Chunk(sample.frame.select(spec.key), sample.where, sample.rows),
                        [Table.read(spec, Path())])
        side = _side(spec.key.lower())
        found = [_input_or_none(_guess(chunk, name)) for name in spec.columns]
        guesses += [replace(guess, side=side if side != "context" else "") for guess in found]
    _refuse_twice(guesses, joined)
    ids = [_named(guesses, names_of) for names_of in (_USERS, _ITEMS)]
    if interactions and not all(ids):
        raise InputError(f"{paths[0]}: rankings need a column of users and one of items, and of {names} none "
                         f"is named like {'those of items' if ids[0] else 'that of users'}; rename it "
                         "(user_id, item_id), or write the schema by hand")
    judged = any(g.binary or g.role in ("label", "rating") for g in guesses)
    if interactions or (all(ids) and not judged):
        return _rankings(guesses, ids, names, joined, paths, Path(folder), len(sample))
    _ensure_label(guesses)
    if all(g.role not in _KINDS for g in guesses):
        raise InputError(f"{paths[0]}: no column among {names} looks like an input; write the schema by hand")
    lines = _first_lines(paths[0], len(sample))
    if all(ids):
        lines.append("# It is for probabilities of labels; --interactions drafts one for rankings of items.")
    lines += [*_top(guesses, paths), "", *_split(guesses, paths), *_columns(guesses)]
    lines += [*_tables(guesses, joined, Path(folder)), *_left_out(guesses)]
    return "\n".join(lines) + "\n"


def _first_lines(path: Path, rows: int) -> list[str]:
    return [f"# Drafted from the first {rows:,} rows of {path.name}. Every line is a guess:",
            "# read, edit, then run `recsys-zoo prepare`. Columns without a [[columns]] entry are not used."]


def _rankings(guesses: list[Guess], ids: list[str], names: Sequence[str], tables: list[TableSpec],
              paths: list[Path], folder: Path, rows: int) -> str:
    """A draft in which rows are interactions: ids, columns of side tables, moments, ratings and a split."""
    user, item = map(_quoted, ids)
    by_role = _by_role(guesses)
    time, rating, split = by_role.get("time"), by_role.get("rating"), by_role.get("split")
    lines = [*_first_lines(paths[0], rows), f"dataset = {_quoted(paths[0].name.split('.')[0])}",
             f"user = {user}  # by its name", f"item = {item}  # by its name", "", "[interactions]"]
    if rating is None:
        lines.append('# every row counts; a threshold makes some count: rating = "stars", above = 3')
    else:
        lines += [f"rating = {_quoted(rating.name)}  # {rating.why}", f"above = {rating.settings['above']}"]
    if time is not None:
        lines.append(f"time = {_quoted(time.name)}  # {time.why}")
    lines += ["# user_core = 5  # users with fewer items go, and with item_core items with fewer users", ""]
    cut = "cut_valid = 0.1  # a tenth of the training pairs, by a hash, where the split gives no valid"
    if len(paths) > 1 and any("train" in path.name.lower() for path in paths):
        lines += _split(guesses, paths)
        lines += [cut] * all("valid" not in path.name.lower() for path in paths)
    elif split is not None:
        lines += [*_split(guesses, paths), *[cut] * (not split.settings["valid"])]
    else:
        lines += ["[split]", 'method = "user"  # the last item of each for test, the one before for valid',
                  f"user = {user}"]
        lines += [f"column = {_quoted(time.name)}"] if time is not None else [
            "random = true  # no column looks like a time; without this line: as the rows stand",
            f"keys = [{user}, {item}]  # by their hash"]
        lines.append("last = {valid = 1, test = 1}")
    own = set(names) - {*ids}
    for guess in guesses:
        if guess.name in own and guess.role in (*_KINDS, "label", "weight"):
            guess.role, guess.why = "skip", "rankings read ids, and columns of side tables"
    lines += [*_columns(guesses), *_tables(guesses, tables, folder), *_left_out(guesses)]
    return "\n".join(lines) + "\n"


def _key_of(file: Path, names: Sequence[str], main: Path) -> TableSpec:
    """A side table with all of its columns; its key is the one column that the main file has too."""
    columns = column_names(file, ReadSpec())
    common = [name for name in columns if name in names]
    if len(common) != 1 or len(columns) == 1:
        found = f"has {common} in common with" if common else "has no column of"
        raise InputError(f"{file}: {found} {main}, where a side table needs one common column, its key, and "
                         "others; rename or remove columns")
    return TableSpec(files=(str(file),), key=common[0], columns=tuple(n for n in columns if n != common[0]))


def _refuse_twice(guesses: list[Guess], tables: list[TableSpec]) -> None:
    names = [guess.name for guess in guesses]
    for table in tables:
        for name in table.columns:
            if names.count(name) > 1:
                raise InputError(f"{table.files[0]}: another side table has {name!r} too; rename one")


_KINDS = ("categorical", "numeric", "bag", "sequence")


def _guess(sample: Chunk, name: str) -> Guess:
    series, lower = sample.column(name), name.lower()
    if isinstance(series.dtype, pl.List | pl.Array):
        return Guess(name, _several(lower), "holds lists", {})
    text = as_text(series, sample.where)
    present = text.drop_nulls()
    different = present.n_unique()
    if different <= 1:
        why = f"constant in the sample ({present[0]!r})" if different else "empty in the sample"
        return Guess(name, "skip", why, {})
    parsed = to_float(present)
    share = 0.0 if parsed is None else 1 - parsed.null_count() / len(present)
    numbers = None if parsed is None or share < 1 else parsed.to_numpy()
    special = _special(sample, name, present, numbers)
    if special is not None:
        return special
    if numbers is not None and lower not in _USERS | _ITEMS and not lower.endswith("id"):
        return _numeric(name, numbers, different, len(text))
    separator, longest = _separator_of(present, share)
    if separator:
        why = f"{different:,} different texts whose pieces are joined by {separator!r}, up to {longest}"
        return Guess(name, _several(lower), why, {"separator": separator, "max_len": longest})
    if different == len(text) and different > 20 and lower not in _USERS | _ITEMS:
        return Guess(name, "skip", f"another value in each of {len(text):,} rows: text or a row name", {})
    return Guess(name, "categorical", f"{different:,} different values, {100 * share:.0f} % numbers", {})


def _input_or_none(guess: Guess) -> Guess:
    """A guess about a column of a side table, which holds no labels, weights or splits of rows."""
    if guess.role in (*_KINDS, "skip"):
        return replace(guess, binary=False)
    return Guess(guess.name, "skip", f"looks like a {guess.role} and stands in a side table: {guess.why}", {})


def _special(sample: Chunk, name: str, present: pl.Series, numbers: np.ndarray | None) -> Guess | None:
    """Label, rating, split, weight or time, recognised by name and values."""
    lower = name.lower()
    values = np.empty(0) if numbers is None else np.unique(numbers)
    if numbers is not None and lower in _LABELS and set(values) <= {0.0, 1.0}:
        why = f"only 0 and 1 ({100 * numbers.mean():.1f} % ones) and a label's name"
        return Guess(name, "label", why, {})
    if lower in _RATINGS and 2 <= len(values) <= 20:
        low, high = values[0], values[-1]
        why = f"a rating from {low:g} to {high:g}, cut at the middle of its scale"
        return Guess(name, "rating", why, {"above": float(low + high) / 2})
    different = {value.lower() for value in present.unique()}
    if {"train"} < different <= {"train", "valid", "test"}:
        return Guess(name, "split", "its values are names of splits", {"valid": int("valid" in different)})
    if lower in _WEIGHTS and len(values) and values[0] >= 0:
        return Guess(name, "weight", "numbers of at least 0 and a weight's name", {})
    named = any(word in lower for word in ("time", "date")) or lower in ("ts", "created_at", "when")
    if present.n_unique() <= 50 or not (named or _like_moments(lower, numbers)):
        return None
    try:
        times = as_times(sample, name)
    except InputError:
        return None
    if named:
        return Guess(name, "time", "moments that can be ordered, none missing", {})
    unit = "us" if numbers is None else _unit(numbers)
    days = [np.datetime64(int(moment), unit).astype("datetime64[D]") for moment in (times.min(), times.max())]
    return Guess(name, "time", f"by its values alone: moments from {days[0]} to {days[1]}", {}, named=False)


def _like_moments(lower: str, numbers: np.ndarray | None) -> bool:
    """Whether a column that is not named like an id may hold dates, or numbers that count from 1970 on."""
    if lower in _USERS | _ITEMS or lower.endswith("id"):
        return False
    return numbers is None or _unit(numbers) != ""


def _unit(numbers: np.ndarray) -> str:
    """The unit in which all numbers count from 1970 to moments of our days, or ""."""
    low, high = float(numbers.min()), float(numbers.max())
    units = {"s": 1.0, "ms": 1e3, "us": 1e6}
    return next((unit for unit, factor in units.items()
                 if _YEARS[0] * factor <= low and high < _YEARS[1] * factor), "")


def _by_role(guesses: Sequence[Guess]) -> dict[str, Guess]:
    """The first column of each role; one that is named like it comes before one that is not."""
    return {g.role: g for g in sorted(reversed(guesses), key=lambda guess: guess.named)}


def _numeric(name: str, numbers: np.ndarray, different: int, rows: int) -> Guess:
    values = numbers[np.isfinite(numbers)]
    whole = bool(np.all(values == np.floor(values)))
    low, high = values.min(), values.max()
    seen = f"{different:,} different numbers from {low:g} to {high:g}"
    if whole and different <= 50:
        binary = set(values) == {0.0, 1.0}
        return Guess(name, "categorical", f"{seen}, all whole: few enough to be categories", {}, binary)
    if whole and different == rows:
        return Guess(name, "skip", f"another whole number in each of {rows:,} rows: a row number", {})
    middle = float(np.median(values))
    if low >= -3 and high > 20 * (middle + 1):
        why = f"{seen}, half of them up to {middle:g}: a long tail, so floor(ln(x)^2)"
        return Guess(name, "numeric", why, {"rule": "log_square"})
    return Guess(name, "numeric", seen, {"rule": "standardise"})


def _separator_of(present: pl.Series, share_numeric: float) -> tuple[str, int]:
    """The character that joins several values in at least a fifth of the rows, and their largest number."""
    if share_numeric == 1:
        return "", 0
    for separator in "|^;,":
        pieces = present.str.split(separator)
        lengths = pieces.list.len().to_numpy()
        if (lengths > 1).mean() >= 0.2 and pieces.explode().n_unique() < present.n_unique():
            return separator, int(lengths.max())
    return "", 0


def _several(lower: str) -> str:
    return "sequence" if any(word in lower for word in _SEQUENCES) else "bag"


def _ensure_label(guesses: list[Guess]) -> None:
    """Without a column named like a label, a rating or else the last 0/1 column takes its place."""
    if any(g.role in ("label", "rating") for g in guesses):
        return
    for guess in reversed(guesses):
        if guess.binary:
            guess.role, guess.why = "label", "only 0 and 1, and no column has a label's name: check this"
            return


def _top(guesses: list[Guess], paths: list[Path]) -> list[str]:
    lines = [f"dataset = {_quoted(paths[0].name.split('.')[0])}"]
    labels = []
    for guess in guesses:
        if guess.role in ("label", "rating"):
            lines.append(f"# label {guess.name}: {guess.why}")
            labels.append(_quoted(guess.name) if guess.role == "label" else
                          f"{{name = \"positive\", column = {_quoted(guess.name)}, "
                          f"above = {guess.settings['above']}, drop_equal = true}}")
    if not labels:
        lines.append("# no column looks like a label; name one, or a threshold such as "
                     '{name = "positive", column = "rating", above = 3}')
    lines.append(f"labels = [{', '.join(labels)}]")
    lines += [f"weight = {_quoted(g.name)}  # {g.why}" for g in guesses if g.role == "weight"][:1]
    user, item = _named(guesses, _USERS), _named(guesses, _ITEMS)
    if user:
        lines += [f"user = {_quoted(user)}  # by its name", f"group = {_quoted(user)}  # gAUC by user"]
    if item:
        lines.append(f"item = {_quoted(item)}  # by its name")
    return lines


def _split(guesses: list[Guess], paths: list[Path]) -> list[str]:
    by_role = _by_role(guesses)
    if any("train" in p.name.lower() for p in paths) and len(paths) > 1:
        return ["[split]", 'method = "files"  # they are named like splits; give them as train, valid, test']
    if "split" in by_role:
        split = by_role["split"]
        return ["[split]", 'method = "column"', f"column = {_quoted(split.name)}  # {split.why}"]
    shares = "fractions = {train = 0.8, valid = 0.1, test = 0.1}"
    if "time" in by_role:
        time = by_role["time"]
        return ["[split]", 'method = "time"', f"column = {_quoted(time.name)}  # {time.why}", shares]
    keys = [name for name in (_named(guesses, _USERS), _named(guesses, _ITEMS)) if name]
    why = "rows of one pair stay together" if len(keys) == 2 else "by row number; columns may be named"
    keys = keys if len(keys) == 2 else []
    return ["[split]", 'method = "hash"', f"keys = [{', '.join(map(_quoted, keys))}]  # {why}", shares]


def _columns(guesses: list[Guess]) -> list[str]:
    lines: list[str] = []
    for guess in guesses:
        if guess.role not in _KINDS:
            continue
        lines += ["", "[[columns]]", f"# {guess.why}", f"name = {_quoted(guess.name)}",
                  f'kind = "{guess.role}"', f'side = "{guess.side or _side(guess.name.lower())}"']
        lines += [f"{key} = {_quoted(value) if isinstance(value, str) else value}"
                  for key, value in guess.settings.items()]
    return lines


def _tables(guesses: list[Guess], tables: list[TableSpec], folder: Path) -> list[str]:
    used = {guess.name for guess in guesses if guess.role in _KINDS}
    lines: list[str] = []
    for table in tables:
        columns = [name for name in table.columns if name in used]
        if columns:
            path = Path(os.path.relpath(table.files[0], folder)).as_posix()
            lines += ["", "[[tables]]", f"files = [{_quoted(path)}]", f"key = {_quoted(table.key)}",
                      f"columns = [{', '.join(map(_quoted, columns))}]"]
    return lines


def _left_out(guesses: list[Guess]) -> list[str]:
    left = [f"# left out: {g.name}: {g.why}" for g in guesses if g.role == "skip"]
    left += [f"# not an input: {g.name}: {g.why}" for g in guesses if g.role in ("time", "split")]
    return ["", *left] if left else []


def _side(lower: str) -> str:
    if lower in _USERS | _USER_SIDE or lower.startswith(("user_", "u_")):
        return "user"
    return "item" if lower in _ITEMS | _ITEM_SIDE or lower.startswith(("item_", "i_")) else "context"


def _named(guesses: list[Guess], names: set[str]) -> str:
    return next((g.name for g in guesses if g.role == "categorical" and g.name.lower() in names), "")


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
