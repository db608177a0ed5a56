"""LightGCN: its graph and propagation by hand, against dense matrices, and its reductions."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.nn import kernels
from tests import toys

USERS, ITEMS = 7, 9


def made(train: ItemLists, users: int = USERS, items: int = ITEMS, **settings):
    tables = {"dim": 3, "init_std": 1.0}
    model = create("lightgcn", toys.ranking(users, items), seed=1, embedding=tables, **settings)
    model.prepare(train)
    return model


def own(model) -> torch.Tensor:
    """E_0 [U + I, D]."""
    tables = ((model.user_table, "user"), (model.item_table, "item"))
    return torch.cat([table.matrix(name)[2:] for table, name in tables])


def dense(train: ItemLists) -> torch.Tensor:
    """D^-1/2 A D^-1/2 in double precision."""
    r = toys.matrix(train, ITEMS)
    a = torch.zeros(USERS + ITEMS, USERS + ITEMS, dtype=torch.float64)
    a[:USERS, USERS:], a[USERS:, :USERS] = r, r.t()
    degree = a.sum(1)
    scale = torch.where(degree > 0, degree.clamp(min=1).rsqrt(), 0.0)
    return scale[:, None] * a * scale


def test_one_edge_by_hand():
    """Both of degree 1 and K = 1: e_u = (e_u0 + e_i0) / 2."""
    model = made(ItemLists.of(torch.tensor([0]), torch.tensor([0]), 1, 1), 1, 1, layers=1)
    user, item = model.vectors()
    expected = own(model).mean(0, keepdim=True)
    torch.testing.assert_close(user, expected)
    torch.testing.assert_close(item, expected)


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_vectors_and_gradients_are_those_of_dense_matrices(layers):
    train = toys.random_lists(USERS, ITEMS, 0.3)
    model = made(train, layers=layers)
    found = torch.cat(model.vectors())
    e0 = own(model).detach().double().requires_grad_()
    a, layer, total = dense(train), e0, e0
    for _ in range(layers):
        layer = a @ layer
        total = total + layer
    right = total / (layers + 1)
    torch.testing.assert_close(found.double(), right, rtol=1e-5, atol=1e-6)
    up = torch.randn(USERS + ITEMS, 3)
    tables = [next(table.parameters()) for table in (model.user_table, model.item_table)]
    users, items = torch.autograd.grad(found, tables, up)  # the first rows are padding and unknown
    gradients = torch.cat([users[-USERS:], items[-ITEMS:]])
    (wanted,) = torch.autograd.grad(right, e0, up.double())
    torch.testing.assert_close(gradients.double(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("on", [False, True], ids=["torch", "kernels"])
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_vectors_of_a_batch_and_their_gradients_are_those_of_all(monkeypatch, layers, on):
    """Users and items that stand in it twice, and an item that is positive and negative."""
    if on and kernels.compiler() is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(kernels, "enabled", on)
    model = made(toys.random_lists(USERS, ITEMS, 0.3), layers=layers)
    batch = Pairs(torch.tensor([0, 3, 0]), torch.tensor([1, 2, 1]), torch.tensor([[4, 2], [5, 5], [1, 8]]),
                  torch.ones(3))
    users, items = model.vectors()
    tables, ups = list(model.parameters()), []
    found, right = model.of_pairs(batch), (users[batch.user], items[batch.pos], items[batch.neg])
    for one, other in zip(found, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
        ups.append(torch.randn_like(one))
    for one, other in zip(*(torch.autograd.grad(v, tables, ups) for v in (found, right)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_without_layers_it_is_mf():
    train = toys.random_lists(USERS, ITEMS, 0.3)
    gcn, mf = made(train, layers=0), create("mf", toys.ranking(USERS, ITEMS), embedding={"dim": 3})
    mf.load_state_dict({k: v for k, v in gcn.state_dict().items() if not k.startswith("graph")})
    batch = Pairs(torch.tensor([0, 3]), torch.tensor([1, 2]), torch.tensor([[4], [5]]), torch.ones(2))
    for name, value in mf.losses(batch).items():
        torch.testing.assert_close(gcn.losses(batch)[name], value)
    users = torch.arange(USERS)
    torch.testing.assert_close(gcn.scoring()(users), mf.scoring()(users))


def test_who_has_no_interaction_keeps_a_share_of_the_own_vector():
    model = made(ItemLists.of(torch.tensor([1]), torch.tensor([2]), USERS, ITEMS), layers=3)
    users, items = model.vectors()
    e0 = own(model)
    torch.testing.assert_close(users[0], e0[0] / 4)
    torch.testing.assert_close(items[0], e0[USERS] / 4)


def test_the_l2_term_is_that_of_the_tables():
    train = toys.random_lists(USERS, ITEMS, 0.3)
    model = made(train, l2=0.5)
    batch = Pairs(torch.tensor([0, 3]), torch.tensor([1, 2]), torch.tensor([[4], [5]]), torch.ones(2))
    e0 = own(model)
    squares = e0[[0, 3]].square().sum() + e0[[USERS + 1, USERS + 2, USERS + 4, USERS + 5]].square().sum()
    torch.testing.assert_close(model.losses(batch)["l2"], 0.25 * squares / 2)


@pytest.mark.parametrize("loss", ["in_batch_softmax", "alignment_uniformity"])
def test_losses_without_negatives_are_those_of_the_vectors_of_all(loss):
    """The batch's own rows, against rows of whole tables."""
    model = made(toys.random_lists(USERS, ITEMS, 0.4), loss=loss, similarity="cosine", l2=0.0)
    pairs = Pairs(torch.tensor([0, 2, 5]), torch.tensor([1, 3, 4]), torch.zeros(3, 0, dtype=torch.int64),
                  torch.ones(3))
    users, items = model.vectors()
    whole = model.terms(pairs, (users[pairs.user], items[pairs.pos], items[pairs.neg]))
    for name, value in model.losses(pairs).items():
        torch.testing.assert_close(value, whole[name])


def test_a_graph_is_where_the_model_is():
    model = made(toys.random_lists(USERS, ITEMS, 0.4)).to("meta")
    model.prepare(toys.random_lists(USERS, ITEMS, 0.4))
    assert {part.device.type for part in (model.graph.crow, model.graph.col, model.graph.values)} == {"meta"}
