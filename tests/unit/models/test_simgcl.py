"""SimGCL and XSimGCL: their noise, their views, and what is left without either."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.errors import InputError
from recsys_zoo.losses import ranking
from recsys_zoo.models.retrieval.lightgcn import disturbed
from tests import toys

USERS, ITEMS = 7, 9
PAIRS = Pairs(torch.tensor([0, 3, 3, 5]), torch.tensor([1, 2, 4, 2]), torch.tensor([[4], [5], [0], [8]]),
              torch.ones(4))


def made(name: str, **settings):
    given = {"embedding": {"dim": 3, "init_std": 1.0}, "layers": 2, **settings}
    model = create(name, toys.ranking(USERS, ITEMS), seed=1, **given)
    model.prepare(toys.random_lists(USERS, ITEMS, 0.5))
    return model


def test_noise_has_its_length_and_keeps_signs():
    torch.manual_seed(0)
    x = torch.randn(50, 4)
    moved = disturbed(x, 0.3)
    torch.testing.assert_close((moved - x).norm(dim=1), torch.full((50,), 0.3))
    assert bool((moved.sign() == x.sign()).all())
    assert torch.equal(disturbed(torch.zeros(2, 4), 0.3), torch.zeros(2, 4))


def test_info_nce_by_loops():
    torch.manual_seed(0)
    x, y, total = torch.randn(4, 3).double(), torch.randn(4, 3).double(), 0.0
    for i in range(4):
        likeness = torch.stack([F.cosine_similarity(x[i], y[j], dim=0) / 0.2 for j in range(4)])
        total += float(likeness.logsumexp(0) - likeness[i])
    assert float(ranking.info_nce(x, y, 0.2)) == pytest.approx(total / 4, rel=1e-9)


@pytest.mark.parametrize("name", ["simgcl", "xsimgcl"])
def test_vectors_are_the_mean_of_the_layers_behind_the_first(name):
    model, gcn = made(name), made("lightgcn")
    gcn.load_state_dict(model.state_dict())
    layers = gcn.graph_layers()
    torch.testing.assert_close(torch.cat(model.vectors()), (layers[1] + layers[2]) / 2)


@pytest.mark.parametrize("name", ["simgcl", "xsimgcl"])
def test_without_noise_and_contrast_it_is_bpr_of_these_vectors(name):
    model = made(name, noise=0.0, contrast=0.0)
    terms = model.losses(PAIRS)
    assert set(terms) == {"bpr", "l2"}
    users, items = model.vectors()
    good = (users[PAIRS.user] * items[PAIRS.pos]).sum(1)
    bad = torch.einsum("bd,bnd->bn", users[PAIRS.user], items[PAIRS.neg])
    torch.testing.assert_close(terms["bpr"], ranking.bpr(good, bad))


def test_the_contrast_of_simgcl_is_of_two_views_of_what_is_in_the_batch():
    model = made("simgcl", contrast=0.7)
    torch.manual_seed(3)
    found = model.losses(PAIRS)["contrast"]
    torch.manual_seed(3)
    one, other = model.view(0.1), model.view(0.1)
    assert not torch.equal(one[0], other[0])
    expected = sum(ranking.info_nce(x[rows], y[rows], 0.2)
                   for x, y, rows in zip(one, other, ([0, 3, 5], [1, 2, 4]), strict=True))
    torch.testing.assert_close(found, 0.7 * expected)


def test_the_contrast_of_xsimgcl_is_of_a_layer_with_the_mean_of_the_same_pass():
    model = made("xsimgcl", contrast=0.7, contrast_layer=2)
    torch.manual_seed(3)
    found = model.losses(PAIRS)
    torch.manual_seed(3)
    layers = model.graph_layers(0.2)
    mean, layer = model.split((layers[1] + layers[2]) / 2), model.split(layers[2])
    expected = sum(ranking.info_nce(x[rows], y[rows], 0.2)
                   for x, y, rows in zip(mean, layer, ([0, 3, 5], [1, 2, 4]), strict=True))
    torch.testing.assert_close(found["contrast"], 0.7 * expected)
    good = (mean[0][PAIRS.user] * mean[1][PAIRS.pos]).sum(1)
    bad = torch.einsum("bd,bnd->bn", mean[0][PAIRS.user], mean[1][PAIRS.neg])
    torch.testing.assert_close(found["bpr"], ranking.bpr(good, bad))


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="contrast_layer=3 is none of the 2 layers"):
        made("xsimgcl", contrast_layer=3)
