"""What rows must share to be ranked together, and the protocols that say how rows were scored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..errors import InputError
from .rows import Row


class Protocol(NamedTuple):
    """How the rows of a protocol were scored, in words for a reader."""

    fit: str  # the splits that models learn from
    seen: str  # what is done about test rows that were seen in training
    candidates: str  # what is scored
    ties: str  # what equal scores count
    metrics: str  # where the numbers come from


CTR = "ctr: best epoch on valid, test scored once"
RANKING = {
    "honest": "full ranking: best epoch on valid, fitted again on train and valid, tested once",
    "published": "full ranking: best epoch on test, as published",
}
JUDGED = "ranking of judged items: best epoch on valid, fitted again on train and valid, tested once"
HELD_OUT = "full ranking for held-out users: best epoch on users of valid, those of test asked once"
COLD = "ranking of new items: best epoch on valid, fitted again on train and valid, tested once"
_LISTS = Protocol("train and valid", "items that the user has in train or valid are no candidates",
                  "all other items of the catalogue", "the mean over all their orders",
                  "means over users with a test item, per user as in metrics/ranking.py")
PROTOCOLS = {
    **dict.fromkeys(RANKING.values(), _LISTS),
    JUDGED: _LISTS._replace(
        seen="judged items that the user has in train or valid are candidates too",
        candidates="the items that were judged for the user, relevant or not",
        metrics="means over users with a judged item, 0 without a relevant one, as in evaluation/judged.py"),
    HELD_OUT: _LISTS._replace(
        fit="train; users of valid and test have no row in it, and are ranked for by what is given of them",
        seen="items that are given of the user are no candidates"),
    COLD: _LISTS._replace(
        seen="no candidate was seen: nobody has one in train or valid",
        candidates="the items of the test split, which are in no split before it",
        metrics="means over users with a test item, per user as in metrics/ranking.py; over pairs and items "
                "as in evaluation/cold.py"),
    CTR: Protocol("train", "nothing is masked", "the rows of the test split, as they are", "half a pair",
                  "AUC exact over all rows; gAUC: mean over users with both classes, weighted by their rows; "
                  "logloss: probabilities clipped at 1e-7")}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """Rows of different keys are never ranked together.

    selection and hparams are "" for references (floors, ceilings), which stand beside all models.
    """

    board: str
    data_digest: str  # covers the files, the encoding and the rule of the split
    label: str
    protocol: str
    selection: str = ""  # split that picked the epoch (and the settings, where they were tuned)
    hparams: str = ""  # "inherited", or "valid" with trials or minutes and the metric: equal budgets only
    split: str = field(default="", compare=False)  # in words, where the row says it

    @property
    def shared(self) -> tuple[str, str, str, str]:
        """What references must share with the models they stand beside."""
        return self.board, self.data_digest, self.label, self.protocol

    @property
    def origin(self) -> str:
        """Where the settings come from, in words for a title."""
        words = {"": "nothing to choose", "inherited": "inherited or default settings"}
        found = words.get(self.hparams, f"tuned on {self.hparams}")
        return found + (", epoch picked on test: without ranks" if self.selection == "test" else "")

    @property
    def words(self) -> tuple[tuple[str, str], ...]:
        """Name and value of every part that is known, for a reader."""
        known = PROTOCOLS.get(self.protocol)
        parts = [("data digest", self.data_digest[:16]), ("split", self.split), ("label", self.label),
                 ("protocol", self.protocol), ("settings", self.origin), ("epoch picked on", self.selection)]
        if known:
            parts += [("learns from", known.fit), ("seen rows", known.seen), ("scored", known.candidates),
                      ("equal scores", known.ties), ("metrics", known.metrics)]
        return tuple((name, value) for name, value in parts if value)


def budget_of(trials: int, minutes: float) -> str:
    """What there was to tune with, in words: minutes of training, or, where they are 0, trials."""
    count, unit = (minutes, "minute") if minutes else (trials, "trial")
    return f"{count:g} {unit}{'s' * (count != 1)}"


def _budget(row: Row) -> str:
    """The row's budget and the metric that chose, "20 trials by recall@20": another metric chooses others."""
    budget, monitor = budget_of(row.trials, row.minutes), row.config.get("train", {}).get("monitor", "")
    return f"{budget} by {monitor}" if monitor else budget


def key_of(row: Row) -> Key:
    """The key of a row."""
    selection = hparams = ""
    if row.role == "model":
        selection = row.selection
        hparams = f"valid, {_budget(row)}" if row.hparams == "valid" else "inherited"
    return Key(row.board, row.data_digest, row.config.get("label", ""), row.protocol, selection, hparams,
               row.split)


def by_key(rows: Iterable[Row]) -> dict[Key, list[Row]]:
    """The rows of each key that has models, in order of appearance, with the references of their data.

    Rows of a key without any finished row (dead, failed) go where they can be reported, to the first key of
    their data. References without models of their data have a key of their own.
    """
    found: dict[Key, list[Row]] = {}
    others: dict[Key, list[Row]] = {}
    for row in rows:
        (found if row.role == "model" else others).setdefault(key_of(row), []).append(row)
    for key in [key for key, members in found.items() if all(row.status != "done" for row in members)]:
        if any(other.shared == key.shared for other in found if other != key):
            others[key] = found.pop(key)
    for key, members in others.items():
        beside = [other for other in found if other.shared == key.shared]
        for other in beside[:1] if key.hparams else beside:
            found[other] = found[other] + members
        if not beside:
            found[key] = members
    return found


def one_key(rows: Iterable[Row]) -> Key:
    """The key that the rows share; InputError names the first part in which they differ."""
    keys = list(dict.fromkeys(key_of(row) for row in rows))
    models = [key for key in keys if key.hparams] or keys
    for name, word in _WORDS.items():
        among = models if name in ("selection", "hparams") else keys
        values = sorted({getattr(key, name)[:40] for key in among})
        if len(values) > 1:
            raise InputError(f"rows of different {word} cannot be ranked together: {values}; rank them apart")
    return models[0]


_WORDS = {"board": "board", "protocol": "protocol", "data_digest": "data digest", "label": "label",
          "selection": "epoch selection", "hparams": "origin of the settings"}
