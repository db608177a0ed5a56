"""Content-KNN, the ridge to iALS and the features of CML against loops and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfTransformer
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import cosine_similarity

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.models.retrieval.contentridge import regress
from tests import toys

USERS, ITEMS, NEW = 14, 25, 6  # the last six items are new
TRAIN = toys.random_lists(USERS, ITEMS, 0.3).among(torch.arange(ITEMS) < ITEMS - NEW)
TOKENS = toys.random_lists(ITEMS, 12, 0.3)
KNOWN = torch.bincount(TRAIN.items, minlength=ITEMS) > 0


def fitted(name: str, **settings):
    model = create(name, toys.ranking(USERS, ITEMS), seed=1, **settings)
    model.content.give(TOKENS, 12)
    (getattr(model, "prepare", None) or model.fit)(TRAIN)
    return model


def test_content_knn_is_the_cosine_of_the_mean_of_the_history():
    counts = toys.matrix(TOKENS, 12).numpy()
    x = TfidfTransformer().fit(counts[KNOWN.numpy()]).transform(counts).toarray()
    means = toys.matrix(TRAIN, ITEMS).numpy() @ x
    found = fitted("contentknn").score(torch.arange(USERS))
    np.testing.assert_allclose(found.numpy(), cosine_similarity(means, x), rtol=1e-4, atol=1e-5)


def test_as_many_directions_as_there_are_tokens_change_nothing():
    whole, turned = fitted("contentknn"), fitted("contentknn", content_dim=12)
    scores = [model.score(torch.arange(USERS)) for model in (whole, turned)]
    torch.testing.assert_close(*scores, rtol=1e-3, atol=1e-4)


def test_regression_is_that_of_scikit_learn():
    g = torch.Generator().manual_seed(0)
    x, q, new = (torch.randn(n, d, generator=g) for n, d in ((30, 5), (30, 3), (7, 5)))
    expected = Ridge(alpha=2.5).fit(x.double(), q.double()).predict(new.double())
    np.testing.assert_allclose(regress(x, q, new, 2.5).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_new_items_have_the_factors_of_the_regression_and_others_those_of_ials():
    settings = {"dim": 4, "epochs": 3}
    model = fitted("contentridge", content_dim=6, ridge=0.7, **settings)
    plain = create("ials", toys.ranking(USERS, ITEMS), seed=1, **settings)
    plain.fit(TRAIN)
    assert torch.equal(model.items[KNOWN], plain.items[KNOWN])
    x = model.content.vectors
    expected = Ridge(alpha=0.7).fit(x[KNOWN], plain.items[KNOWN]).predict(x[~KNOWN])
    np.testing.assert_allclose(model.items[~KNOWN].numpy(), expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(model.score(torch.arange(USERS)), model.users @ model.items.T)


def features(**settings):
    return fitted("cml.features", embedding={"dim": 5}, content_dim=6, hidden=[8], negatives=3, **settings)


def pairs() -> Pairs:
    user, item = TRAIN.pairs()
    neg = torch.zeros(len(user), 3, dtype=torch.int64)
    return Pairs(user, item, neg, torch.ones(len(user)))


def test_items_start_where_the_perceptron_puts_them_and_the_term_is_0_there():
    model = features()
    told = model.projected(model.content.vectors)
    torch.testing.assert_close(model.item_rows(torch.arange(ITEMS)), told)
    term = model.losses(pairs())["features"]
    assert float(term.detach()) == pytest.approx(0, abs=1e-9)
    gradients = torch.autograd.grad(term, model.projector.parameters())
    assert all(float(g.abs().max()) < 1e-5 for g in gradients)


def test_the_term_of_the_features_is_a_sum_over_known_items():
    model = features(features=0.5)
    told = model.projected(model.content.vectors).detach()
    moved = told + torch.randn(ITEMS, 5, generator=torch.Generator().manual_seed(1))
    model.item_table.load_rows("item", torch.cat([torch.zeros(2, 5), moved]))
    squares = sum(float((moved[i] - told[i]).square().sum()) for i in range(ITEMS) if KNOWN[i])
    term = model.losses(pairs())["features"]
    assert float(term.detach()) == pytest.approx(0.5 * squares * (1 + 1 / int(KNOWN.sum())), rel=1e-5)
    slope = torch.autograd.grad(term, list(model.item_table.parameters()), retain_graph=True)[0][2:]
    torch.testing.assert_close(slope[KNOWN], (moved - told)[KNOWN], rtol=1e-4, atol=1e-5)  # 0.5 * 2
    assert not slope[~KNOWN].any()


def test_new_items_are_placed_by_the_perceptron_alone():
    model = features()
    model.item_table.load_rows("item", torch.randn(ITEMS + 2, 5))
    items = model.vectors()[1].detach()
    torch.testing.assert_close(items[~KNOWN], model.projected(model.content.vectors).detach()[~KNOWN])
    torch.testing.assert_close(items[KNOWN], model.item_rows(torch.arange(ITEMS)).detach()[KNOWN])
    assert float(model.projected(9 * torch.randn(50, 6)).detach().norm(dim=1).max()) <= 1.1 + 1e-5


def test_without_features_nothing_is_read_and_nothing_changes():
    plain = create("cml", toys.ranking(USERS, ITEMS), seed=1, embedding={"dim": 5})
    assert not hasattr(plain, "content")
    assert not plain.whole_table
    assert features().whole_table
    assert set(plain.losses(pairs())) == {"warp"}
    assert ItemLists.of(*TRAIN.pairs(), USERS, ITEMS).items.equal(TRAIN.items)
