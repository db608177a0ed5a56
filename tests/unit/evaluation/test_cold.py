"""Rankings of new items and audiences against loops and scikit-learn."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score

from recsys_zoo.evaluation import cold
from recsys_zoo.evaluation.full_rank import full_ranking
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.metrics import binary
from recsys_zoo.metrics.ranking import recall
from tests import toys

USERS, ITEMS = 30, 24
OLD = 15  # items 15 to 23 are new
G = torch.Generator().manual_seed(0)
DENSE = torch.rand(USERS, ITEMS, generator=G) < 0.3
BEFORE = toys.lists((DENSE & (torch.arange(ITEMS) < OLD)).int().tolist())
RELEVANT = toys.lists((DENSE & (torch.arange(ITEMS) >= OLD)).int().tolist())
NEW = torch.arange(OLD, ITEMS)
SCORES = torch.randint(0, 6, (USERS, ITEMS), generator=G).float()  # with ties
LABELS = DENSE[:, OLD:].numpy().astype(int)


def score(users: torch.Tensor) -> torch.Tensor:
    return SCORES[users].clone()


def mean_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Over the rows with both classes."""
    both = [row for row in range(len(labels)) if 0 < labels[row].sum() < labels.shape[1]]
    return float(np.mean([roc_auc_score(labels[row], scores[row]) for row in both]))


def metrics(**more) -> dict[str, float]:
    return cold.pair_metrics(score, RELEVANT, BEFORE, NEW, ITEMS, **more)


def test_new_items_are_those_of_a_split_that_shares_none_with_those_before():
    assert cold.new_items(RELEVANT, BEFORE).tolist() == NEW.tolist()
    one = ItemLists.of(torch.tensor([0]), torch.tensor([OLD]), USERS, ITEMS)
    assert cold.new_items(RELEVANT, one) is None
    assert cold.new_items(BEFORE.first(0), RELEVANT) is None


def test_old_items_are_no_candidates():
    """The ranking is that of a table of the new items alone, and no score of an old one matters."""
    found = cold.cold_ranking(score, RELEVANT, NEW, ITEMS)
    among = toys.lists(LABELS.tolist())
    expected = full_ranking(lambda users: SCORES[users, OLD:].clone(), among, among.first(0), ITEMS - OLD)
    assert torch.equal(found.users, expected.users)
    for name in ("user", "above", "tied", "candidates"):
        assert torch.equal(getattr(found.ranks, name), getattr(expected.ranks, name))
    assert torch.equal(found.items, expected.items + OLD)
    other = SCORES.clone()
    other[:, :OLD] = 99.0
    again = cold.cold_ranking(lambda users: other[users].clone(), RELEVANT, NEW, ITEMS)
    assert torch.equal(found.ranks.above, again.ranks.above)
    assert set(found.ranks.candidates.tolist()) == {ITEMS - OLD}


def test_auc_of_users_and_items_and_pairs_are_those_of_scikit_learn():
    found, scores = metrics(), SCORES[:, OLD:].numpy()
    assert found["user_auc"] == pytest.approx(mean_auc(LABELS, scores), abs=1e-12)
    assert found["item_auc"] == pytest.approx(mean_auc(LABELS.T, scores.T), abs=1e-12)
    assert found["auc"] == pytest.approx(roc_auc_score(LABELS.ravel(), scores.ravel()), abs=1e-12)


def test_the_control_of_frequency_is_that_of_a_scorer_of_counts():
    counts = BEFORE.counts.numpy()[:, None].repeat(ITEMS - OLD, 1)
    found = metrics()
    expected = roc_auc_score(LABELS.ravel(), counts.ravel())
    assert found["frequency_auc"] == pytest.approx(expected, abs=1e-12)
    assert found["frequency_item_auc"] == pytest.approx(mean_auc(LABELS.T, counts.T), abs=1e-12)
    assert abs(expected - 0.5) > 0.01
    assert mean_auc(LABELS, counts) == 0.5  # it says nothing within a user


def test_a_constant_scorer_gets_a_half():
    found = cold.pair_metrics(lambda users: torch.zeros(len(users), ITEMS), RELEVANT, BEFORE, NEW, ITEMS)
    for name in ("auc", "user_auc", "item_auc"):
        assert found[name] == 0.5


def test_audience_recall_is_that_of_a_loop():
    """Of the best 5 % of 30 users, two; without ties."""
    scores = torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(3))
    found = cold.pair_metrics(lambda users: scores[users], RELEVANT, BEFORE, NEW, ITEMS)
    values = []
    for item in NEW.tolist():
        best = sorted(range(USERS), key=lambda user: -float(scores[user, item]))[:math.ceil(0.05 * USERS)]
        buyers = DENSE[:, item].nonzero().squeeze(1).tolist()
        values += [len(set(best) & set(buyers)) / len(buyers)] * bool(buyers)
    assert found["item_recall@5%"] == pytest.approx(np.mean(values))


def test_probabilities_are_measured_and_beside_them_the_base_rate():
    logits = torch.randn(USERS, ITEMS, generator=torch.Generator().manual_seed(4))
    found = cold.pair_metrics(lambda users: logits[users], RELEVANT, BEFORE, NEW, ITEMS, probabilities=True)
    p = logits[:, OLD:].sigmoid().double().numpy().ravel()
    assert found["logloss"] == pytest.approx(log_loss(LABELS.ravel(), p), rel=1e-6)
    base = len(BEFORE.items) / (USERS * len(torch.unique(BEFORE.items)))
    expected = log_loss(LABELS.ravel(), np.full(LABELS.size, base))
    assert found["base_logloss"] == pytest.approx(expected, rel=1e-6)
    assert 0 < found["calibration_error"] < 1
    assert "logloss" not in metrics()


def test_tiers_hold_every_ranked_user_once():
    found = cold.cold_ranking(score, RELEVANT, NEW, ITEMS)
    value = recall(found.ranks, 3)
    tiers = cold.by_tier(found, {"recall@3": value}, BEFORE)
    counts = BEFORE.counts[found.users]
    order = counts.sort().values
    low, high = order[len(order) // 3], order[2 * len(order) // 3]
    parts = {"light": counts < low, "middle": (counts >= low) & (counts < high), "heavy": counts >= high}
    assert sum(int(part.sum()) for part in parts.values()) == len(found.users)
    assert tiers == {f"{name}_recall@3": pytest.approx(float(value[part].mean()))
                     for name, part in parts.items() if bool(part.any())}
    value[parts["light"]], value[found.users == found.users[parts["heavy"]][0]] = math.nan, math.nan
    tiers = cold.by_tier(found, {"recall@3": value}, BEFORE)
    heavy = value[parts["heavy"]][1:]
    assert "light_recall@3" not in tiers
    assert tiers["heavy_recall@3"] == pytest.approx(float(heavy.mean()))


@pytest.mark.parametrize("new", [1, 3])
def test_a_few_new_ones_of_many_items_are_ranked_in_blocks_of_all(new):
    """Scores are made of all items before those of the new ones are taken."""
    users, items, sizes = 60, 1 << 18, []

    def watched(block: torch.Tensor) -> torch.Tensor:
        sizes.append(len(block))
        return torch.rand(len(block), 1).expand(-1, items)

    everybody = torch.arange(users)
    relevant = ItemLists.of(everybody, items - 1 - everybody % new, users, items)
    found = cold.cold_ranking(watched, relevant, torch.arange(items - new, items), items)
    assert sizes == [32, 28]
    assert sizes[0] * items * 4 == cold.BLOCK_MIB << 20
    assert found.ranks.candidates.tolist() == [new] * users


def test_what_no_user_has_is_left_out():
    """Every user has the only new item, and as many before."""
    everybody = torch.arange(6)
    relevant = ItemLists.of(everybody, torch.full((6,), 4), 6, 5)
    before = ItemLists.of(everybody, everybody % 4, 6, 5)
    score = lambda users: torch.rand(len(users), 5)  # noqa: E731
    found = cold.pair_metrics(score, relevant, before, torch.tensor([4]), 5)
    assert found == {"item_recall@1%": pytest.approx(1 / 6), "item_recall@5%": pytest.approx(1 / 6)}
    ranked = cold.cold_ranking(score, relevant, torch.tensor([4]), 5)
    assert cold.by_tier(ranked, {"recall@1": recall(ranked.ranks, 1)}, before) == {}


def test_blocks_do_not_change_anything(monkeypatch):
    whole = metrics(probabilities=True)
    monkeypatch.setattr(binary, "_BLOCK", 11)
    monkeypatch.setattr(cold, "_BLOCK", 4 * ITEMS * 7)  # bytes: seven users at once
    monkeypatch.setattr(cold, "_PAIRS", 10)
    sizes: list[int] = []

    def watched(users: torch.Tensor) -> torch.Tensor:
        sizes.append(len(users))
        return score(users)

    found = cold.pair_metrics(watched, RELEVANT, BEFORE, NEW, ITEMS, probabilities=True)
    assert found == {**whole, "logloss": pytest.approx(whole["logloss"], rel=1e-12)}  # a sum of sums
    assert max(sizes) == 7


MEMORY = """
import torch
from recsys_zoo.evaluation import cold
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.machine import peak_mib, reset_peak
users, new = 2500, 4000
a, b = torch.randn(users, 4), torch.randn(2 * new, 4)
some = torch.arange(3 * users)
before = ItemLists.of(some % users, some * 7 % new, users, 2 * new)
relevant = ItemLists.of(some % users, new + some * 7 % new, users, 2 * new)
for number, size in enumerate((50, users)):  # the first call loads what any call needs
    reset_peak()
    low = peak_mib()
    pairs = [ItemLists.of(*(part[lists.pairs()[0] < size] for part in lists.pairs()), size, 2 * new)
             for lists in (relevant, before)]
    cold.pair_metrics(lambda rows: a[rows] @ b.t(), *pairs, torch.arange(new, 2 * new), 2 * new, True)
print((peak_mib() - low) * 2**20 / (users * new), 2 * cold.BLOCK_MIB * 2**20 / (users * new))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux can forget a peak")
def test_what_is_held_is_what_is_stated():
    found = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True).stdout
    held, blocks = map(float, found.split())
    assert 4 < held < 10 + blocks  # bytes a pair
