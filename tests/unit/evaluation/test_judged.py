"""Rankings of judged items against a loop over users; users without a relevant one; rare items."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.judged import judged_ranking, rare_items
from recsys_zoo.itemlists import ItemLists
from tests import toys

USERS, ITEMS = 30, 20


def judged() -> tuple[ItemLists, ItemLists]:
    """A third of the pairs are judged, a third of these relevant; user 3 has none relevant, user 4 none."""
    g = torch.Generator().manual_seed(0)
    shown = torch.rand(USERS, ITEMS, generator=g) < 0.35
    shown[4] = False
    good = shown & (torch.rand(USERS, ITEMS, generator=g) < 0.3)
    good[3] = False
    shown[3, 0] = True
    return toys.lists(good.int().tolist()), toys.lists(shown.int().tolist())


def of(these: ItemLists, user: int) -> list[int]:
    return these.of_users(torch.tensor([user]))[1].tolist()


def test_metrics_are_those_of_a_loop_over_judged_items():
    relevant, shown = judged()
    scores = torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(1))
    found = judged_ranking(lambda users: scores[users].clone(), relevant, shown, ITEMS)
    names = ("dcg@3", "hits@3", "recall@3", "precision_sum@3")
    expected: dict[str, list[float]] = {name: [] for name in names}
    for user in range(USERS):
        own, good = of(shown, user), of(relevant, user)
        if not own:
            continue
        order = sorted(own, key=lambda item: -float(scores[user, item]))[:3]
        marks = [item in good for item in order]
        expected["dcg@3"].append(sum(m / max(math.log2(r), 1) for r, m in enumerate(marks, 1)))
        expected["hits@3"].append(sum(marks))
        expected["recall@3"].append(sum(marks) / max(len(good), 1))
        expected["precision_sum@3"].append(sum(sum(marks[:r]) / r for r, m in enumerate(marks, 1) if m))
    got = found.metrics((3,))
    for name, values in expected.items():
        assert got[name].tolist() == pytest.approx(values), name
    assert 3 in found.users.tolist()
    assert 4 not in found.users.tolist()
    assert float(got["dcg@3"][found.users.tolist().index(3)]) == 0


def test_candidates_are_the_judged_items_and_nothing_else_counts():
    relevant, shown = judged()
    scores = torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(1))
    found = judged_ranking(lambda users: scores[users].clone(), relevant, shown, ITEMS)
    assert torch.equal(found.found.ranks.candidates, shown.counts[found.found.users])
    other = torch.where(toys.matrix(shown, ITEMS) > 0, scores.double(), 99.0).float()
    again = judged_ranking(lambda users: other[users].clone(), relevant, shown, ITEMS)
    assert all(torch.equal(value, again.metrics()[name]) for name, value in found.metrics().items())


def test_a_constant_scorer_gets_what_chance_gives():
    shown = toys.lists([[1, 1, 1, 1, 0]])
    relevant = toys.lists([[0, 1, 0, 0, 0]])
    found = judged_ranking(lambda users: torch.zeros(len(users), 5), relevant, shown, 5).metrics((1, 3))
    assert float(found["dcg@1"]) == pytest.approx(1 / 4)
    assert float(found["dcg@3"]) == pytest.approx((1 + 1 + 1 / math.log2(3)) / 4)
    assert float(found["hits@3"]) == pytest.approx(3 / 4)


def test_the_items_of_the_places_stand_beside_them():
    relevant, shown = judged()
    scores = torch.randint(0, 3, (USERS, ITEMS), generator=torch.Generator().manual_seed(1)).float()
    found = judged_ranking(lambda users: scores[users].clone(), relevant, shown, ITEMS).found
    for place, item, above, tied in zip(found.ranks.user.tolist(), found.items.tolist(),
                                        found.ranks.above.tolist(), found.ranks.tied.tolist(), strict=True):
        user = int(found.users[place])
        others = [float(scores[user, i]) for i in of(shown, user)]
        assert item in of(relevant, user)
        assert above == sum(s > float(scores[user, item]) for s in others)
        assert tied == others.count(float(scores[user, item]))


def test_rare_items():
    train = ItemLists.of(torch.tensor([0, 1, 2, 0, 1, 0]), torch.tensor([0, 0, 0, 1, 1, 2]), 3, 5)
    assert rare_items(train, 5).tolist() == [False, False, True, True, True]  # counts 3 2 1 0 0, median 1
    assert rare_items(train, 5, 2).tolist() == [False, True, True, True, True]
    assert [t.tolist() for t in train.among(rare_items(train, 5, 2)).pairs()] == [[0, 0, 1], [1, 2, 1]]


def test_nothing_relevant_is_said():
    empty = toys.lists([[0, 0, 0]])
    with pytest.raises(InputError, match="nothing to rank"):
        judged_ranking(lambda users: torch.zeros(len(users), 3), empty, toys.lists([[1, 1, 0]]), 3)


def test_equal_scores_in_the_worst_and_the_best_order_are_those_of_a_loop():
    relevant, shown = judged()
    scores = torch.randint(0, 3, (USERS, ITEMS), generator=torch.Generator().manual_seed(1)).float()
    found = judged_ranking(lambda users: scores[users].clone(), relevant, shown, ITEMS)
    ends = found.by_ties(3)
    for name, sign in (("worst", 1), ("best", -1)):
        values = []
        for user in found.users.tolist():
            good = of(relevant, user)
            order = sorted(of(shown, user), key=lambda i: (-float(scores[user, i]), sign * (i in good)))
            values.append(sum((item in good) / max(math.log2(r), 1) for r, item in enumerate(order[:3], 1)))
        assert ends[f"dcg@3|ties={name}"] == pytest.approx(sum(values) / len(values))
    assert ends["dcg@3|ties=worst"] < float(found.metrics((3,))["dcg@3"].mean()) < ends["dcg@3|ties=best"]
