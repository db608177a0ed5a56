"""SimpleX: users' vectors against loops, what is left out of a history, and its reduction to MF."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.catalog import recipes
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.models import vectors
from recsys_zoo.nn import kernels
from recsys_zoo.runs import read_recipe
from recsys_zoo.schema import FIRST
from tests import toys

USERS, ITEMS = 6, 8
POOLINGS = ("mean", "user_attention", "self_attention")


def made(train: ItemLists, **settings):
    given = {"embedding": {"dim": 3, "init_std": 0.7}, "negatives": 2, **settings}
    model = create("simplex", toys.ranking(USERS, ITEMS), seed=1, **given)
    model.prepare(train)
    return model.eval()


def histories() -> ItemLists:
    return toys.lists([[1, 1, 1, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0], [0] * 8, [1] * 8,
                       [0, 1, 0, 1, 0, 1, 0, 1], [1, 0, 0, 0, 0, 0, 0, 1]])


def batch() -> Pairs:
    return Pairs(torch.tensor([0, 1, 4]), torch.tensor([2, 3, 1]), torch.tensor([[3, 5], [0, 1], [0, 2]]),
                 torch.ones(3))


def by_loop(model, user: int, history: list[int]) -> torch.Tensor:
    """h_u by the formulas, without the batch."""
    cfg, own = model.cfg, model.user_rows(torch.tensor([user]))[0].detach()
    items = model.item_rows(torch.arange(ITEMS)).detach()
    if cfg.history_vectors == "own":
        items = model.history_table.matrix("item")[FIRST:].detach()
    history = history[: cfg.history]
    pooled = torch.zeros(3)
    if cfg.pooling == "mean":
        weights = [1 / len(history)] * len(history) if history else []
    else:
        asked = own if cfg.pooling == "user_attention" else model.query[:, 0]
        logits = [float((torch.tanh(model.key(items[j])) @ asked).detach()) for j in history]
        padding = cfg.history - len(history) if cfg.count_padding else 0
        total = sum(math.exp(x) for x in logits) + padding
        weights = [math.exp(x) / total for x in logits]
    for weight, j in zip(weights, history, strict=True):
        pooled = pooled + weight * items[j]
    return cfg.own * own + (1 - cfg.own) * model.value.weight @ pooled


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("more", [{}, {"history": 3}, {"history": 10, "count_padding": True},
                                  {"history_vectors": "own"}])
def test_vectors_of_users_are_those_of_loops(pooling, more):
    train = histories()
    model = made(train, pooling=pooling, own=0.3, **more)
    users, items = model.vectors()
    torch.testing.assert_close(items, model.item_rows(torch.arange(ITEMS)))
    for user in range(USERS):
        history = train.of_users(torch.tensor([user]))[1].tolist()
        if len(history) > model.cfg.history:  # the items of most users, then those of lower numbers
            history.sort(key=lambda item: -int((train.items == item).sum()))
        torch.testing.assert_close(users[user], by_loop(model, user, history), rtol=1e-5, atol=1e-6)


def test_of_a_long_history_the_items_of_most_users_are_kept():
    """Whatever their numbers: item 4 has all users, item 0 one."""
    train = toys.lists([[1, 0, 1, 0, 1, 0, 0, 0], [0, 0, 1, 0, 1, 0, 0, 0], *[[0, 0, 0, 0, 1, 0, 0, 0]] * 4])
    model = made(train, pooling="mean", own=0.3, history=1)
    torch.testing.assert_close(model.vectors()[0][0], by_loop(model, 0, [4]), rtol=1e-5, atol=1e-6)
    without = model.of_users(torch.tensor([0]), torch.tensor([4]))[0]
    torch.testing.assert_close(without, by_loop(model, 0, [2]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_item_of_the_pair_is_no_part_of_its_history(pooling):
    model = made(histories(), pooling=pooling)
    found = model.of_users(torch.tensor([0, 1, 2]), torch.tensor([2, 3, 4]))
    for row, (user, history) in enumerate([(0, [0, 1, 4]), (1, []), (2, [])]):
        torch.testing.assert_close(found[row], by_loop(model, user, history), rtol=1e-5, atol=1e-6)


def test_a_history_is_a_set():
    """The order in which interactions are given changes nothing."""
    user, item = histories().pairs()
    order = torch.randperm(len(user), generator=torch.Generator().manual_seed(0))
    again = made(ItemLists.of(user[order], item[order], USERS, ITEMS))
    assert torch.equal(again.vectors()[0], made(histories()).vectors()[0])


@pytest.mark.parametrize("cost", [0, 64])
def test_loss_by_loops(monkeypatch, cost):
    """With the vectors gathered, and by a product with all items."""
    monkeypatch.setattr(vectors, "GATHER_COST", cost)
    model, pairs = made(histories(), margin=0.2, negative_weight=3.0), batch()
    train, total = histories(), 0.0
    for user, pos, negatives in zip(pairs.user.tolist(), pairs.pos.tolist(), pairs.neg.tolist(), strict=True):
        left = [j for j in train.of_users(torch.tensor([user]))[1].tolist() if j != pos]
        h, q = by_loop(model, user, left).detach(), model.item_rows(torch.arange(ITEMS)).detach()
        cosine = [float(F.cosine_similarity(h, q[j], dim=0)) for j in range(ITEMS)]
        total += 1 - cosine[pos] + 3 / 2 * sum(max(0, cosine[j] - 0.2) for j in negatives)
    assert float(model.losses(pairs)["cosine_contrastive"].detach()) == pytest.approx(total / 3, rel=1e-5)


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize(("by_kernel", "cost"), [(True, 64), (False, 0), (False, 64)])
@pytest.mark.parametrize("rows", [1, 4])
def test_similarities_and_gradients_however_they_are_made(monkeypatch, rows, by_kernel, cost, cosine):
    """Of few items and of more than there are; 8 rows of the table, and one of padding."""
    if by_kernel and kernels.missing("chosen_rows"):
        pytest.skip("no C++ compiler")
    monkeypatch.setattr(kernels, "enabled", by_kernel)
    monkeypatch.setattr(vectors, "GATHER_COST", cost)
    model = made(histories(), embedding={"dim": 17, "init_std": 0.7})
    monkeypatch.setattr(type(model), "cosine", cosine)
    items = torch.randint(ITEMS, (rows, 5))
    users, weight = torch.randn(rows, 17, requires_grad=True), torch.randn(rows, 5)
    table = next(model.item_table.parameters())
    scores = model.similarities(users, items)
    found = torch.autograd.grad((scores * weight).sum(), (users, table))
    u, q = users.detach().double().requires_grad_(), table.detach().double().requires_grad_()
    chosen = q[items + FIRST]
    right = (u[:, None] * (F.normalize(chosen, dim=2) if cosine else chosen)).sum(2)
    expected = torch.autograd.grad((right * weight).sum(), (u, q))
    torch.testing.assert_close(scores.double(), right, rtol=1e-5, atol=1e-6)
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient.double(), other, rtol=1e-5, atol=1e-6)


def test_without_a_history_it_is_mf_with_this_loss():
    model = made(histories(), own=1.0)
    mf = create("mf.ccl", toys.ranking(USERS, ITEMS), embedding={"dim": 3}, negatives=2)
    mf.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("histories")})
    for name, value in mf.losses(batch()).items():
        torch.testing.assert_close(model.losses(batch())[name], value)
    users = torch.arange(USERS)
    torch.testing.assert_close(model.scoring()(users), mf.scoring()(users))


def test_a_table_of_histories_moves_by_users_alone():
    model = made(histories(), history_vectors="own")
    sum(model.losses(batch()).values()).backward()
    gradient = next(model.history_table.parameters()).grad
    moved = (gradient.abs().sum(1).nonzero().flatten() - FIRST).tolist()
    assert moved == [0, 1, 3, 4, 5, 7]  # 0, 1, 4 of user 0 and 3, 5, 7 of user 4, without the pairs' items


@pytest.mark.parametrize(("recipe", "users", "items", "count", "padding"), [
    ("gowalla_m1/simplex", 29858, 40981, 7_164_992, 64),  # one more row: padding of the histories
    ("gowalla_m1/simplex_mf_ccl", 29858, 40981, 4_533_824, 0),
])
def test_parameters_of_recipes_are_those_in_the_logs_of_the_authors(recipe, users, items, count, padding):
    settings = dict(read_recipe(recipes()[recipe]).model)
    model = create(settings.pop("name"), toys.ranking(users, items), **settings)
    assert model.num_parameters() + padding == count


def test_dropout_is_of_training_alone():
    model = made(histories(), dropout=0.5)
    calm = float(model.losses(batch())["cosine_contrastive"].detach())
    assert calm == float(model.losses(batch())["cosine_contrastive"].detach())
    torch.manual_seed(0)
    noisy = {float(model.train().losses(batch())["cosine_contrastive"].detach()) for _ in range(5)}
    assert len(noisy) > 1
