"""Ranking losses by hand, against loops in plain Python, and by their properties."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo.losses import ranking


def drawn(rows: int = 5, negatives: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    return (torch.randn(rows, dtype=torch.float64, requires_grad=True),
            torch.randn(rows, negatives, dtype=torch.float64, requires_grad=True))


def test_bpr_is_the_loop():
    pos, neg = drawn()
    rows = zip(pos.tolist(), neg.tolist(), strict=True)
    pairs = [math.log1p(math.exp(n - p)) for p, row in rows for n in row]
    assert float(ranking.bpr(pos.detach(), neg.detach())) == pytest.approx(sum(pairs) / len(pairs))


def test_bpr_of_equal_scores_is_ln_2_and_blind_to_a_shift():
    pos, neg = drawn()
    assert float(ranking.bpr(torch.full((3,), 7.0), torch.full((3, 2), 7.0))) == pytest.approx(math.log(2))
    shift = torch.randn(5, dtype=torch.float64)
    torch.testing.assert_close(ranking.bpr(pos + shift, neg + shift[:, None]), ranking.bpr(pos, neg))


def test_cross_entropy_with_negatives_is_that_of_torch():
    pos, neg = drawn()
    right = F.binary_cross_entropy_with_logits(pos, torch.ones_like(pos), reduction="sum")
    right = right + F.binary_cross_entropy_with_logits(neg, torch.zeros_like(neg), reduction="sum")
    torch.testing.assert_close(ranking.cross_entropy_with_negatives(pos, neg), right / len(pos))


def test_cosine_contrastive_by_hand():
    """1 - 0.5 + 3 (0.1 + 0) / 2 and 1 - 1 + 0: (0.65 + 0) / 2."""
    pos, neg = torch.tensor([0.5, 1.0]), torch.tensor([[0.9, -1.0], [0.8, 0.2]])
    assert float(ranking.cosine_contrastive(pos, neg, 0.8, 3.0)) == pytest.approx(0.325)
    above = torch.tensor([0.5, 1.1])  # as dropout makes it
    assert float(ranking.cosine_contrastive(above, neg, 0.8, 3.0)) == pytest.approx(0.325)


def test_with_one_negative_cosine_contrastive_is_the_loss_of_two_pairs():
    """torch's, of a pair that is alike and one that is not, however heavy the latter."""
    user, pos, neg = (torch.randn(20, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(3))
    scores = [F.cosine_similarity(user, other) for other in (pos, neg)]
    for weight in (1.0, 1000.0):
        alike, other = (F.cosine_embedding_loss(user, item, torch.full((20,), sign), margin=0.3)
                        for item, sign in ((pos, 1), (neg, -1)))
        found = ranking.cosine_contrastive(scores[0], scores[1][:, None], 0.3, weight)
        torch.testing.assert_close(found, alike + weight * other)


def test_warp_by_hand():
    """margin 1, pos 2, negatives 2.5, 5, 1: two are nearer than 3, one by 2: ln(1 + 30 2/3) 2."""
    pos, neg = torch.tensor([2.0, 0.0]), torch.tensor([[2.5, 5.0, 1.0], [9.0, 9.0, 9.0]])
    assert float(ranking.warp(pos, neg, 1.0, 30)) == pytest.approx(2 * math.log(21))


def test_warp_passes_a_gradient_to_the_positive_and_the_nearest_negative_alone():
    pos, neg = drawn()
    ranking.warp(pos, neg, 5.0, 100).backward()
    nearest = F.one_hot(neg.argmin(1), 4).bool()
    assert bool((neg.grad[nearest] < 0).all())
    assert not neg.grad[~nearest].any()
    torch.testing.assert_close(pos.grad, -neg.grad.sum(1))


def test_a_sampled_softmax_over_all_items_once_is_the_softmax():
    scores, target = torch.randn(6, 9, dtype=torch.float64), torch.randint(0, 9, (6,))
    others = torch.stack([torch.cat([row[:t], row[t + 1 :]]) for row, t in zip(scores, target, strict=True)])
    found = ranking.sampled_softmax(scores[torch.arange(6), target], others)
    torch.testing.assert_close(found, F.cross_entropy(scores, target))


def test_equal_rates_change_nothing_and_others_do():
    pos, neg = drawn()
    plain = ranking.sampled_softmax(pos, neg)
    equal = (torch.full_like(t, -3.0) for t in (pos, neg))
    torch.testing.assert_close(ranking.sampled_softmax(pos, neg, *equal), plain)
    apart = ranking.sampled_softmax(pos, neg, neg_log_q=torch.full_like(neg, -3.0))
    assert apart.item() > plain.item()


def test_the_correction_makes_the_sum_that_over_all_items():
    """Expectation of sum e^(s_j - ln(N q_j)) over draws is the sum over the catalogue."""
    scores, q = torch.randn(7, dtype=torch.float64), torch.rand(7, dtype=torch.float64)
    q = q / q.sum()
    drawn = torch.multinomial(q, 400_000, replacement=True)
    found = (scores[drawn] - (len(drawn) * q[drawn]).log()).exp().sum()
    assert float(found) == pytest.approx(float(scores.exp().sum()), rel=0.02)


def test_in_batch_softmax_leaves_out_the_same_item_of_other_rows():
    scores = torch.randn(4, 4, dtype=torch.float64)
    items, log_q = torch.tensor([5, 3, 5, 8]), torch.randn(4, dtype=torch.float64)
    total = 0.0
    for row in range(4):
        kept = [c for c in range(4) if c == row or items[c] != items[row]]
        exponents = [float(scores[row, c] - log_q[c]) for c in kept]
        total += math.log(sum(map(math.exp, exponents))) - float(scores[row, row] - log_q[row])
    assert float(ranking.in_batch_softmax(scores, items, log_q)) == pytest.approx(total / 4)


def test_in_batch_softmax_of_one_item_is_nothing_to_learn():
    scores = torch.randn(3, 3, requires_grad=True)
    loss = ranking.in_batch_softmax(scores, torch.tensor([2, 2, 2]))
    loss.backward()
    assert float(loss.detach()) == 0
    assert not scores.grad.any()


def test_alignment_and_uniformity_are_the_loops():
    x, y = (F.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1) for _ in range(2))
    near = [(float(a) - float(b)) ** 2 for a, b in zip(x.flatten(), y.flatten(), strict=True)]
    assert float(ranking.alignment(x, y)) == pytest.approx(sum(near) / 5)
    far = [math.exp(-2 * float((x[i] - x[j]).square().sum())) for i in range(5) for j in range(i + 1, 5)]
    assert float(ranking.uniformity(x)) == pytest.approx(math.log(sum(far) / len(far)))
    assert float(ranking.uniformity(x[:1])) == 0


@pytest.mark.parametrize("loss", [
    ranking.bpr, ranking.cross_entropy_with_negatives, ranking.sampled_softmax,
    lambda pos, neg: ranking.cosine_contrastive(pos, neg, 0.1, 2.0)])
def test_a_better_order_costs_less(loss):
    pos, neg = drawn()
    assert float(loss(pos + 0.5, neg)) < float(loss(pos, neg)) < float(loss(pos, neg + 0.5))


@pytest.mark.parametrize(
    "loss", [ranking.bpr, ranking.cross_entropy_with_negatives, ranking.sampled_softmax]
)
def test_large_scores_do_not_overflow(loss):
    pos = torch.tensor([1e4, -1e4], requires_grad=True)
    neg = torch.tensor([[-1e4], [1e4]], requires_grad=True)
    value = loss(pos, neg)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(pos.grad).all()
    assert torch.isfinite(neg.grad).all()
