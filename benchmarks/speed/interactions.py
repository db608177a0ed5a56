"""Generated interactions of users with items and vectors that rank them: Zipf popularity, groups of taste.

numpy only. About 34 items a user, of which a fifth is held out; every item has a user in training. Vectors
know the groups and the popularity, so that held-out items stand nearer the top than by chance.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

USERS, ITEMS, DIM, GROUPS = 30_000, 40_000, 64, 20
_DRAWS, _HELD_OUT = 960_000, 0.2


@dataclass(frozen=True)
class Interactions:
    """train and test: users and items int64 [2, n]; vectors float32 of users [U, D] and items [I, D]."""

    train: np.ndarray
    test: np.ndarray
    users: np.ndarray
    items: np.ndarray

    def digest(self) -> str:
        """The same for the same data."""
        found = hashlib.sha256()
        for array in (self.train, self.test, self.users, self.items):
            found.update(np.ascontiguousarray(array).tobytes())
        return found.hexdigest()[:16]


def generate(users: int = USERS, items: int = ITEMS, dim: int = DIM, seed: int = 5) -> Interactions:
    """The same on every machine with the same streams of numpy."""
    rng = np.random.default_rng(seed)
    draws = _DRAWS * users // USERS
    activity = rng.lognormal(0, 0.6, users)
    user = rng.choice(users, draws, p=activity / activity.sum())
    share = np.cumsum(1 / (np.arange(1, items + 1) + 20) ** 0.8)
    rank = np.searchsorted(share / share[-1], rng.random(draws)).clip(max=items - 1)
    shift = items // GROUPS
    item = (rank + user % GROUPS * shift) % items
    pairs = np.unique(user * items + item)
    held = rng.random(len(pairs)) < _HELD_OUT
    once = rng.integers(0, users, items) * items + np.arange(items)  # no item without a user
    train = np.unique(np.concatenate([pairs[~held], once]))
    test = np.setdiff1d(pairs[held], once)
    place = (np.arange(items) - np.arange(GROUPS)[:, None] * shift) % items  # of an item, in each group
    taste = -np.log(place + 20.0)
    taste = ((taste - taste.mean()) / taste.std()).T  # [I, groups]
    vectors = [0.3 * rng.standard_normal((count, dim)) for count in (users, items)]
    vectors[0][np.arange(users), np.arange(users) % GROUPS] += 1
    vectors[1][:, :GROUPS] += taste
    return Interactions(*(np.stack([k // items, k % items]) for k in (train, test)),
                        *(v.astype(np.float32) for v in vectors))
