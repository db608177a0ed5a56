"""Popularity: the counts, the same for everybody."""

from __future__ import annotations

import torch

from recsys_zoo import create
from recsys_zoo.evaluation.full_rank import top_items
from tests import toys


def test_scores_are_the_counts_and_lists_their_order():
    """Items have 1, 3, 2 and 0 users."""
    train = toys.lists([[1, 1, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]])
    model = create("popularity", toys.ranking(3, 4))
    model.fit(train)
    assert model.score(torch.tensor([2, 0])).tolist() == [[1, 3, 2, 0]] * 2
    items, _ = top_items(model.score, torch.arange(3), train, 4, 2)
    assert items.tolist() == [[2, 3], [0, 3], [0, 3]]
