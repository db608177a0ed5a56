"""Pairs without an interaction are drawn from all users' alike."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo.errors import InputError
from recsys_zoo.tasks.negatives import UnlabelledPairs
from tests import toys

ROWS = [[1, 1, 1, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 1, 1]]


def test_every_unlabelled_pair_has_the_same_share_and_no_other_any():
    torch.manual_seed(0)
    user, item = UnlabelledPairs(toys.lists(ROWS), 5).draw(6_500, 4)
    assert user.shape == item.shape == (6_500, 4)
    counts = torch.bincount((5 * user + item).flatten(), minlength=25).view(5, 5)
    free = 1 - torch.tensor(ROWS)
    assert not counts[free == 0].any()
    expected = 26_000 / int(free.sum())
    chi2 = float(((counts[free == 1] - expected) ** 2 / expected).sum())
    assert chi2 < 30  # 12 degrees of freedom: above that once in 360


def test_users_who_have_everything_are_said_when_all_do():
    with pytest.raises(InputError, match="there is no unlabelled pair"):
        UnlabelledPairs(toys.lists([[1, 1], [1, 1]]), 2)
