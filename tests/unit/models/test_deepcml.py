"""Deep CML: the properties of a distance between histories and content, its losses and its chances."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.models.retrieval.deepcml import DeepCML
from recsys_zoo.tasks.negatives import Negatives
from tests import toys

USERS, ITEMS = 14, 20
TRAIN = toys.random_lists(USERS - 1, ITEMS, 0.3)  # and one user who has nothing
TRAIN = ItemLists(torch.cat([TRAIN.offsets, TRAIN.offsets[-1:]]), TRAIN.items)
SMALL = {"dim": 6, "hidden": [8], "content_dim": 5, "negatives": 4}
EVERYBODY = torch.arange(USERS)


def made(train: ItemLists = TRAIN, tokens: ItemLists | None = None, **settings) -> DeepCML:
    model = create("deepcml", toys.ranking(USERS, ITEMS), seed=1, **{**SMALL, **settings})
    model.content.give(tokens or toys.random_lists(ITEMS, 9, 0.4), 9)
    model.prepare(train)
    return model


def batch(model: DeepCML, train: ItemLists = TRAIN) -> Pairs:
    user, item = train.pairs()
    g = torch.Generator().manual_seed(0)
    known = torch.bincount(train.items, minlength=ITEMS).clamp(max=1)
    return Pairs(user, item, Negatives(train, ITEMS, known).draw(user, 4, g), torch.ones(len(user)))


def of(user: int) -> list[int]:
    return TRAIN.of_users(torch.tensor([user]))[1].tolist()


def test_items_that_say_the_same_have_equal_chances():
    tokens = toys.random_lists(ITEMS, 9, 0.4)
    item, token = tokens.pairs()
    kept = item != 7
    own = tokens.of_users(torch.tensor([3]))[1]
    item, token = torch.cat([item[kept], torch.full_like(own, 7)]), torch.cat([token[kept], own])
    tokens = ItemLists.of(item, token, ITEMS, 9)
    logits = made(tokens=tokens).logits()(EVERYBODY)
    assert torch.equal(logits[:, 3], logits[:, 7])
    assert not torch.equal(logits[:, 3], logits[:, 4])


def latest_first(train: ItemLists) -> torch.Tensor:
    """Ages, by which a larger item is younger."""
    return torch.cat([torch.arange(int(count)).flip(0) for count in train.counts])


def test_the_order_of_a_history_is_nothing_to_a_mean_and_the_ages_are_something_to_attention():
    """Lists the other way round, and ages of them."""
    back = torch.cat([TRAIN.of_users(torch.tensor([user]))[1].flip(0) for user in range(USERS)])
    for pooling, same in (("mean", True), ("attention", False)):
        model, other, aged = (made(pooling=pooling) for _ in range(3))
        other.histories.hold(ItemLists(TRAIN.offsets, back))
        aged.use_ages(latest_first(TRAIN))
        logits = model.logits()(EVERYBODY)
        torch.testing.assert_close(other.logits()(EVERYBODY), logits)
        assert torch.equal(aged.logits()(EVERYBODY), logits) is same


def test_a_chance_falls_with_the_distance():
    model = made()
    distance = torch.linspace(0, 4, 50)
    assert bool((model.logit(distance, torch.tensor(3.0)).diff() < 0).all())
    with torch.no_grad():
        model.scale.fill_(-9.0)
    assert bool((model.logit(distance.double(), torch.tensor(3.0)).diff() < 0).all())


def test_nothing_is_nearer_than_the_only_item_of_a_history():
    single = ItemLists.of(EVERYBODY, EVERYBODY, USERS, ITEMS)
    model = made(single)
    distance = -model.scoring()(EVERYBODY)
    assert distance[EVERYBODY, EVERYBODY].abs().max() < 1e-6
    assert torch.equal(model.logits()(EVERYBODY).argmax(1), (-distance).argmax(1))
    assert bool((distance >= -1e-6).all())


def test_with_given_vectors_the_loss_is_that_of_cml(monkeypatch):
    """As a mean over the pairs, where CML has a sum."""
    model, g = made(), torch.Generator().manual_seed(3)
    pairs = batch(model)
    p, q = (torch.randn(n, 6, generator=g) * 0.4 for n in (USERS, ITEMS))
    monkeypatch.setattr(model, "gathered", lambda pairs: (p[pairs.user], q, pairs.pos, pairs.neg))
    plain = create("cml", toys.ranking(USERS, ITEMS), embedding={"dim": 6}, negatives=4)
    for table, name, rows in ((plain.user_table, "user", p), (plain.item_table, "item", q)):
        table.load_rows(name, torch.cat([torch.zeros(2, 6), rows]))
    assert model.known == ITEMS
    expected = plain.losses(pairs)["warp"] / len(pairs)
    torch.testing.assert_close(model.losses(pairs)["metric"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "attention"])
def test_users_without_history_share_a_finite_vector(pooling):
    model = made(pooling=pooling)
    users, _ = model.vectors()
    assert model.logits()(EVERYBODY).isfinite().all()
    torch.testing.assert_close(users[-1], model.unknown / model.unknown.norm().clamp(min=1))
    terms = model.losses(batch(model))
    assert all(bool(term.isfinite()) for term in terms.values())


@pytest.mark.parametrize(("pooling", "history"), [("mean", 50), ("attention", 50), ("attention", 2),
                                                  ("attention", 1)])
@pytest.mark.parametrize("past", [False, True])
def test_the_item_of_a_pair_is_left_out_of_the_history(pooling, history, past):
    """The users of a batch are those of lists without that item, or what came after it too, one pair at a
    time; where nothing is left, of whom nothing is known."""
    settings = {"pooling": pooling, "history": history, "past": past}
    model = made(**settings)
    model.use_ages(latest_first(TRAIN))
    pairs = batch(model)
    found, sizes = model.gathered(pairs)[0], model.sizes(pairs)
    user, item = TRAIN.pairs()
    for row in range(0, len(pairs), 3):
        own = user == pairs.user[row]
        kept = ~own | (item < pairs.pos[row] if past else item != pairs.pos[row])
        rest = ItemLists.of(user[kept], item[kept], USERS, ITEMS)
        assert int(sizes[row]) == int((own & kept).sum())
        other = made(**settings)
        other.histories.hold(rest)
        other.use_ages(latest_first(rest))
        torch.testing.assert_close(found[row], other.vectors()[0][pairs.user[row]], rtol=1e-4, atol=1e-5)
    assert bool((sizes == 0).any()) or not past


def test_attention_by_a_loop():
    model = made(pooling="attention", history=3)
    ages = torch.cat([torch.arange(len(of(user))).flip(0) for user in range(USERS)])
    model.use_ages(ages)
    users, items = (part.detach() for part in model.vectors())
    decay = math.log1p(math.exp(float(model.decay.detach())))
    for user in range(USERS - 1):
        own = of(user)
        latest = [(item, age) for item, age in zip(own, range(len(own) - 1, -1, -1), strict=True) if age < 3]
        weight = [float((torch.tanh(model.key(items[item])) @ model.query).detach())
                  - math.log1p(age) * decay for item, age in latest]
        share = torch.tensor(weight).softmax(0)
        expected = sum(s * items[item] for s, (item, _) in zip(share, latest, strict=True))
        torch.testing.assert_close(users[user], expected, rtol=1e-4, atol=1e-5)


def test_chances_are_corrected_by_how_often_pairs_are_drawn():
    """logit p = logit q + ln(n W / (I - n)); the user without items counts as half a one."""
    model = made()
    counts = TRAIN.counts.clamp(min=0.5).double()
    seen = model.logit(-model.scoring()(EVERYBODY), TRAIN.counts[:, None].float())
    drawn = counts * 4 / (ITEMS - TRAIN.counts)
    odds = seen.double().exp() * drawn[:, None]
    torch.testing.assert_close(model.logits()(EVERYBODY).double(), odds.log(), rtol=1e-4, atol=1e-4)


def test_the_correction_gives_back_a_known_rate():
    """A logistic of nothing but a constant, fitted on pairs with W negatives each, then corrected, has the
    rate of interactions of users with as many items."""
    n, w = 6, 4
    q = 1 / (1 + w)  # what the cross-entropy of a constant ends at
    odds = q / (1 - q) * n * w / (ITEMS - n)
    assert odds == pytest.approx((n / ITEMS) / (1 - n / ITEMS))


def test_items_of_no_training_row_change_no_loss():
    """Their content is not even looked at."""
    item, token = toys.random_lists(ITEMS, 9, 0.4).pairs()
    few = TRAIN.among(torch.arange(ITEMS) < 15)
    losses = []
    for moved in (token, torch.where(item >= 15, (token + 2) % 9, token)):
        model = made(few, ItemLists.of(item, moved, ITEMS, 9))
        assert model.known == 15
        losses.append({k: float(v.detach()) for k, v in model.losses(batch(model, few)).items()})
    assert losses[0] == losses[1]


def test_the_distance_of_content_orders_as_content_knn_and_learns_no_vector():
    """Of a user's items, whose own length no item changes."""
    model = made(distance="content", content_dim=8)
    knn = create("contentknn", toys.ranking(USERS, ITEMS), content_dim=8)
    knn.content.give(toys.random_lists(ITEMS, 9, 0.4), 9)
    knn.fit(TRAIN)
    found, expected = model.scoring()(EVERYBODY)[:-1], knn.scoring()(EVERYBODY)[:-1]
    assert expected.unique().numel() > ITEMS
    length = (model.vectors()[0][:-1].square().sum(1, keepdim=True) + 1) / 2
    known = model.content.vectors.norm(dim=1) > 0
    ours = (found / 2 + length) / (2 * length - 1).sqrt()
    torch.testing.assert_close(ours[:, known], expected[:, known], rtol=1e-4, atol=1e-5)
    assert set(dict(model.named_parameters())) == {"unknown", "scale", "frequency", "bias"}
    terms = model.losses(batch(model))
    assert set(terms) == {"default", "probability"}
    sum(terms.values()).backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in model.parameters())
    with pytest.raises(ValueError, match="attention"):
        made(distance="content", pooling="attention")
