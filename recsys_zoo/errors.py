"""Errors a user can mend: one sentence that says what is wrong, where, and the way out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping


class InputError(ValueError):
    """Bad data, setting or file; the command line prints it as one line and exits with code 2."""


class UnknownName(InputError, KeyError):
    """A name that is not registered, with its near matches."""

    __str__ = ValueError.__str__  # KeyError would print the sentence in quotes


class Busy(InputError):
    """Another process is at work on the same file or folder."""


def unknown_name(
    what: str, name: str, known: Iterable[str], hint: str = "", meanings: Mapping[str, str] | None = None
) -> UnknownName:
    """The error for a misspelt name: lists near matches, or all names when there are few.

    Near is also what `meanings` describe with all words of the name: learning_rate finds lr.
    """
    known = sorted(known)
    words = name.rpartition(".")[2].lower().split("_")
    said = {k: text.lower() for k, text in (meanings or {}).items() if len(words) > 1}
    meant = [k for k, text in said.items() if all(word in text for word in words)]
    near = list(dict.fromkeys([*meant, *difflib.get_close_matches(name, known, n=3, cutoff=0.5)]))[:3]
    if near:
        way_out = f"did you mean {near}?"
    elif len(known) <= 12:
        way_out = f"choose one of {known}"
    else:
        way_out = hint or f"{len(known)} names are known"
    return UnknownName(f"no {what} named {name!r}; {way_out}")
