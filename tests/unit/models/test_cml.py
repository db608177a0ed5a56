"""CML: the worked examples and properties of its specification."""

from __future__ import annotations

import math

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.models.retrieval.cml import CML
from recsys_zoo.runs import RunConfig
from recsys_zoo.tasks.ranking import RankingTask
from recsys_zoo.train.callbacks import Callback
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.trainer import Trainer
from tests import toys
from tests.unit.tasks.test_ranking import data

ITEMS = [[0.5, 0.0], [0.3, 0.0], [0.0, 1.0], *[[9.0, 9.0]] * 7]  # ten of them


def made(users: list[list[float]] = [[0.0, 0.0]], items: list[list[float]] = ITEMS, **settings) -> CML:  # noqa: B006
    model = create("cml", toys.ranking(len(users), len(items)), embedding={"dim": 2}, **settings)
    for table, name, rows in ((model.user_table, "user", users), (model.item_table, "item", items)):
        table.load_rows(name, torch.cat([torch.zeros(2, 2), torch.tensor(rows)]))
    return model


PAIR = Pairs(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1, 2]]), torch.ones(1))


@pytest.mark.parametrize(("margin", "expected"), [(1.0, 1.16 * math.log(11)), (0.7, 0.86 * math.log(6))])
def test_hand_examples(margin, expected):
    """p = (0, 0), q = (.5, 0), negatives at .09 and 1, squared; with 0.7 the second is no impostor."""
    loss = made(margin=margin).losses(PAIR)
    assert set(loss) == {"warp"}
    assert float(loss["warp"].detach()) == pytest.approx(expected, rel=1e-5)


def test_the_paper_sums_the_hinge_over_the_negatives():
    loss = made(margin=1.0, hinge="sum").losses(PAIR)["warp"]
    assert float(loss.detach()) == pytest.approx((1.16 + 0.25) * math.log(11), rel=1e-5)


@pytest.mark.parametrize("hinge", ["closest", "sum"])
def test_with_one_negative_and_without_the_weight_of_ranks_it_is_the_hinge_of_pairs(hinge):
    """torch's hinge of the margin between two distances, over every pair."""
    users, items = torch.randn(4, 2), torch.randn(6, 2)
    pairs = Pairs(*torch.tensor([[0, 3, 1], [1, 5, 0]]), torch.tensor([[2], [0], [3]]), torch.ones(3))
    model = made(users.tolist(), items.tolist(), margin=0.7, negatives=1, rank_weight=False, hinge=hinge)
    far = (users[pairs.user] - items[pairs.neg[:, 0]]).square().sum(1)
    near = (users[pairs.user] - items[pairs.pos]).square().sum(1)
    right = torch.nn.functional.margin_ranking_loss(far, near, torch.ones(3), margin=0.7, reduction="sum")
    torch.testing.assert_close(model.losses(pairs)["warp"].detach(), right)


def test_covariance_by_hand():
    """Users (1, 1), (-1, -1) and items (1, 1), (-1, -1): centred, the covariance off the diagonal is 1."""
    corners = [[1.0, 1.0], [-1.0, -1.0]]
    pair = Pairs(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1]]), torch.ones(1))
    for signed in (False, True):
        model = made(corners, corners, covariance=0.5, signed=signed)
        assert float(model.losses(pair)["covariance"].detach()) == pytest.approx(0.5 * 2)
    turned = [[1.0, -1.0], [-1.0, 1.0]]
    found = [float(made(turned, turned, covariance=0.5, signed=s).losses(pair)["covariance"].detach())
             for s in (False, True)]
    assert found == pytest.approx([1.0, -1.0])


def test_a_rotation_changes_nothing_and_a_translation_the_ball_alone():
    users, items = torch.randn(4, 2) * 0.3, torch.randn(6, 2) * 0.3
    pairs = Pairs(torch.tensor([0, 3]), torch.tensor([1, 5]), torch.tensor([[2, 3], [0, 4]]), torch.ones(2))
    angle = torch.tensor(0.7)
    turn = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    plain = made(users.tolist(), items.tolist())
    for moved in ((users @ turn, items @ turn), (users + 0.2, items + 0.2)):
        other = made(*(rows.tolist() for rows in moved))
        found, right = (model.losses(pairs)["warp"] for model in (other, plain))
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
        found, right = (model.scoring()(torch.arange(4)) for model in (other, plain))
        torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-5)
    small = min(0.9 / float(torch.cat([users, items]).norm(dim=1).max()), 1.0)
    for shift, kept in ((0.0, True), (0.5, False)):
        moved = [rows * small @ turn + shift for rows in (users, items)]
        other = made(*(rows.tolist() for rows in moved))
        other.after_step()
        after = torch.cat([part.detach() for part in other.vectors()])
        assert torch.allclose(after, torch.cat(moved), atol=1e-6) is kept


def test_scores_are_minus_squared_distances():
    users, items = torch.randn(5, 2), torch.randn(7, 2)
    found = made(users.tolist(), items.tolist()).scoring()(torch.tensor([4, 0]))
    torch.testing.assert_close(found, -torch.cdist(users[[4, 0]], items).square(), rtol=1e-4, atol=1e-5)


def test_with_rows_of_length_1_the_order_is_that_of_inner_products():
    users, items = (torch.nn.functional.normalize(torch.randn(n, 2), dim=1) for n in (3, 9))
    found = made(users.tolist(), items.tolist()).scoring()(torch.arange(3))
    assert torch.equal(found.argsort(1), (users @ items.t()).argsort(1))


@pytest.mark.parametrize("mode", ["autograd", "rows"])
def test_after_every_step_all_vectors_lie_in_the_ball(mode):
    held = data()
    model = create("cml", held.schema, seed=1, embedding={"dim": 8}, negatives=5, ball=0.8)
    model.prepare(ItemLists.of(*torch.zeros((2, 0), dtype=torch.int64), 1, 1))
    task = RankingTask(held, negatives=5, ks=(5,))
    cfg = TrainConfig(epochs=3, batch_size=64, lr=0.05, monitor="recall@5", device="cpu", table_update=mode)
    longest = []

    class Watch(Callback):
        def on_step_end(self, info) -> None:
            with torch.no_grad():
                longest.append(float(torch.cat(model.vectors()).norm(dim=1).max()))

    Trainer(task, cfg, callbacks=[Watch()]).fit(model)
    assert len(longest) > 10
    assert 0.7 < min(longest) <= max(longest) <= 0.8 + 1e-6


def test_rows_start_about_on_the_unit_ball():
    model = create("cml", toys.ranking(300, 200), seed=1, embedding={"dim": 64})
    users, items = model.vectors()
    assert float(torch.cat([users, items]).detach().norm(dim=1).mean()) == pytest.approx(1.0, abs=0.02)


def test_a_covariance_reads_whole_tables():
    assert made(covariance=1.0).whole_table
    assert not made().whole_table


def test_distances_of_a_trained_model_obey_the_triangle_inequality():
    """Of users through items to users; a model of inner products has no such distances."""
    task = RankingTask(data(), negatives=5)
    model = create("cml", task.data.schema, embedding={"dim": 4}, negatives=5)
    Trainer(task, TrainConfig(epochs=3, lr=0.05, monitor="recall@20", device="cpu")).fit(model)
    rows = torch.arange(model.num_users)
    with torch.no_grad():
        far = (-model.scoring()(rows)).clamp(min=0).sqrt().double()  # [U, I]
        between = torch.cdist(*[model.vectors()[1].double()] * 2)  # [I, I]
    assert bool((far[:, :, None] <= far[:, None, :] + between + 1e-6).all())
    assert bool((between <= (far[:, :, None] + far[:, None, :]).amin(0) + 1e-6).all())


def test_the_preset_of_the_official_script_says_how_it_is_trained():
    cfg = RunConfig.parse({"model": {"name": "cml.official"}, "train": {"lr": 0.05}}, "run").resolved()
    assert (cfg.train.optimizer, cfg.train.batch_size, cfg.train.clip_norm) == ("adagrad", 50_000, 1e9)
    assert cfg.train.lr == 0.05  # what is said goes before a preset
    assert {"negatives": 20, "margin": 1.9, "ball": 1.0, "hinge": "closest"}.items() <= cfg.model.items()
    plain = RunConfig.parse({"model": {"name": "cml"}}, "run").resolved()
    assert plain.train.optimizer == "adam"
    assert {key: value for key, value in plain.model.items() if key != "name"} == {
        key: value for key, value in cfg.model.items() if key != "name"}  # the defaults of the class


@pytest.mark.parametrize("name", ["cml.paper", "cml.features"])
def test_the_other_presets_are_trained_alike(name):
    found, right = (RunConfig.parse({"model": {"name": preset}}, "run").resolved().train
                    for preset in (name, "cml.official"))
    assert found == right


def test_the_preset_of_the_paper_sums_hinges_and_covariances():
    model = create("cml.paper", toys.ranking(2, 10), embedding={"dim": 2})
    pairs = Pairs(torch.tensor([0]), torch.tensor([0]), torch.tensor([[1, 2]]), torch.ones(1))
    terms = model.losses(pairs)
    assert set(terms) == {"warp", "covariance"}
    other = create("cml", toys.ranking(2, 10), embedding={"dim": 2}, hinge="sum", covariance=0.1)
    other.load_state_dict(model.state_dict())
    for name, value in other.losses(pairs).items():
        torch.testing.assert_close(value, terms[name])
