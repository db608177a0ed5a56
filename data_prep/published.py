"""Data sets that are published as one CSV file a split: found, and compared with their published MD5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from recsys_zoo.errors import InputError

from .download import file_md5
from .recipe import Raw, Say


def published(raw: Path, folder: str, md5: dict[str, str], by_hand: str, say: Say) -> Raw:
    """The CSV file of each split, in `raw` or raw/`folder`; the note names those with another MD5."""
    splits = find_splits(raw, folder, md5)
    if splits is None:
        raise InputError(f"{raw}: has no train.csv, valid.csv and test.csv; {by_hand}")
    return Raw(splits=splits, note=compare(splits, md5, say))


def find_splits(raw: Path, folder: str, names: dict[str, str]) -> dict[str, Path] | None:
    """NAME.csv of every split, in `raw` or raw/`folder`; None when one is missing."""
    for place in (raw, raw / folder):
        splits = {name: place / f"{name}.csv" for name in names}
        if all(path.is_file() for path in splits.values()):
            return splits
    return None


def compare(splits: dict[str, Path], md5: dict[str, str], say: Say,
            digest: Callable[[Path], str] = file_md5, known: Mapping[str, str] | None = None) -> str:
    """Say of each file whether it is the published one; the note for those that are not.

    `known` holds what is known of a split's other file, in place of the plain sentence.
    """
    changed = []
    for name, path in splits.items():
        found = digest(path)
        if found == md5[name]:
            say(f"{path}: the published {name}.csv (md5 {found})")
        else:
            say(f"{path}: not the published {name}.csv (md5 {found} instead of {md5[name]})")
            changed.append((known or {}).get(name, f"{name} is not the published file"))
    return "; ".join(changed)
