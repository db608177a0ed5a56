"""Rel-MF and WMF against sums by hand, and what their batches are made of."""

from __future__ import annotations

import polars as pl
import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Pairs, PairsOfAll
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.errors import InputError
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.losses.propensity import inverse_propensity_loss, popularity_propensities
from recsys_zoo.metrics.ranking import snips_dcg
from recsys_zoo.rankruns import begin
from recsys_zoo.runs import RunConfig, identity, train
from recsys_zoo.tasks.ranking import RankingTask
from recsys_zoo.train.callbacks import Callback
from tests import toys
from tests.unit.tasks.test_ranking import data

USERS, ITEMS = 6, 5
TRAIN = ItemLists.of(torch.tensor([0, 1, 2, 3, 0, 1, 4]), torch.tensor([0, 0, 0, 0, 1, 3, 3]), USERS, ITEMS)
BATCH = PairsOfAll(torch.tensor([0, 1]), torch.tensor([1, 3]), torch.tensor([[2, 4], [1, 0]]), torch.ones(2),
                   torch.tensor([[3, 5], [2, 4]]))


def model(name: str, **settings):
    made = create(name, toys.ranking(USERS, ITEMS), seed=1, embedding={"dim": 4, "init_std": 0.5},
                  **settings)
    made.prepare(TRAIN)
    return made


def loss(made, pairs: Pairs = BATCH) -> float:
    terms = made.losses(pairs)
    assert list(terms) == ["pointwise"]
    return float(terms["pointwise"].detach())


def by_hand(made, theta: dict[tuple[int, int], float], weight: float) -> float:
    """Over the clicks (0, 1) and (1, 3), and the unlabelled pairs of BATCH."""
    users, items = made.vectors()
    p = torch.sigmoid(users @ items.t()).detach().double()
    total = 0.0
    for pair in ((0, 1), (1, 3)):
        inverse = 1 / theta[pair]
        total += float(inverse * (1 - p[pair]) ** 2 + weight * (1 - inverse) * p[pair] ** 2)
    total += sum(weight * float(p[pair] ** 2) for pair in ((3, 2), (5, 4), (2, 1), (4, 0)))
    return total / (2 + weight * 4)


def test_the_loss_of_a_batch_by_hand():
    theta = {(0, 1): 0.5, (1, 3): 0.5**0.5}  # items with 4, 1, 0, 2 and 0 clicks
    for clip in (0.0, 0.6):
        made = model("relmf", clip=clip)
        clipped = {pair: max(value, clip) for pair, value in theta.items()}
        assert loss(made) == pytest.approx(by_hand(made, clipped, 1.0), rel=1e-5)
    weighted = model("wmf", unlabelled_weight=0.3)
    assert loss(weighted) == pytest.approx(by_hand(weighted, {(0, 1): 1.0, (1, 3): 1.0}, 0.3), rel=1e-5)


@pytest.mark.parametrize("error", ["squared", "log"])
def test_clipping_at_one_no_power_and_wmf_of_weight_one_are_the_same_model(error):
    plain = loss(model("wmf", error=error))
    assert loss(model("relmf.naive", error=error)) == pytest.approx(plain)
    assert loss(model("relmf.rmf", power=0.0, error=error)) == pytest.approx(plain)
    assert loss(model("relmf.rmf", error=error)) != pytest.approx(plain)


@pytest.mark.parametrize("error", ["squared", "log"])
@pytest.mark.parametrize(("clicks", "corrected"), [(1.0, True), (20.0, True), (20.0, False)])
def test_only_with_all_pairs_alike_is_the_minimum_at_the_relevance(error, clicks, corrected):
    """What the card says: clicks that count a times as much move it to a gamma / (1 + (a - 1) theta gamma),
    which falls with theta."""
    p = torch.linspace(5e-4, 1 - 5e-4, 1000, dtype=torch.float64)
    for theta, gamma in ((0.2, 0.03), (0.5, 0.03), (0.9, 0.03), (0.5, 0.01)):
        weight = torch.tensor(theta if corrected else 1.0).expand(1000)
        chance, loss = theta * gamma, torch.zeros(1000, dtype=torch.float64)
        for label, share in ((1.0, clicks * chance), (0.0, 1 - chance)):
            values = inverse_propensity_loss(p.logit(), torch.full((1000,), label), weight, error=error)
            loss += share * values
        wanted = gamma if corrected else chance
        expected = clicks * wanted / (1 + (clicks - 1) * chance)
        assert float(p[loss.argmin()]) == pytest.approx(expected, abs=1e-3)
        assert (expected == pytest.approx(gamma)) is (corrected and clicks == 1)


def test_an_item_without_a_click_shifts_nothing():
    made = model("relmf")
    assert made.theta.tolist() == pytest.approx([1, 0.5, 0.5, 0.5**0.5, 0.5])


def test_negatives_without_users_of_their_own_are_of_the_rows_user():
    pairs = Pairs(BATCH.user, BATCH.pos, BATCH.neg, BATCH.weight)
    same = PairsOfAll(BATCH.user, BATCH.pos, BATCH.neg, BATCH.weight, torch.tensor([[0, 0], [1, 1]]))
    made = model("relmf")
    assert loss(made, pairs) == loss(made, same) != loss(made)


def test_own_propensities_of_items_and_of_pairs():
    made = model("relmf.rmf")
    table = 0.1 + 0.8 * torch.rand(USERS, ITEMS, generator=torch.Generator().manual_seed(0))
    made.use_propensities(table)
    theta = {pair: float(table[pair]) for pair in ((0, 1), (1, 3))}
    assert loss(made) == pytest.approx(by_hand(made, theta, 1.0), rel=1e-5)
    made.use_propensities(table[0])
    theta = {pair: float(table[0, pair[1]]) for pair in theta}
    assert loss(made) == pytest.approx(by_hand(made, theta, 1.0), rel=1e-5)
    for wrong, said in ((table[:, :2], "propensities of the shape"), (table * 0, "above 0 and at most 1")):
        with pytest.raises(InputError, match=said):
            made.use_propensities(wrong)


def test_own_propensities_outlast_a_fit():
    made = model("relmf")
    theta = 0.1 + 0.05 * torch.arange(ITEMS)
    made.use_propensities(theta)
    made.prepare(toys.random_lists(USERS, ITEMS, 0.5))
    torch.testing.assert_close(made.theta, theta)


def test_a_column_of_items_holds_propensities(tmp_path):
    """Of a run, by its settings; valid is weighed by popularity, for all models alike."""
    draw = torch.Generator().manual_seed(3)
    rows = [f"u{u},i{i},{'train' if (u + i) % 3 else 'valid' if i % 2 else 'test'}" for u in range(20)
            for i in range(12) if float(torch.rand(1, generator=draw)) < 0.6]
    (tmp_path / "rows.csv").write_text("\n".join(["user,item,part", *rows]))
    thetas = [(i + 1) / 20 for i in range(12)]
    (tmp_path / "items.csv").write_text("\n".join(
        ["item,theta,over", *(f"i{i},{theta},{theta + 0.9}" for i, theta in enumerate(thetas))]))
    numbers = [{"name": name, "side": "item", "kind": "numeric"} for name in ("theta", "over")]
    spec = {"dataset": "seen", "user": "user", "item": "item", "interactions": {},
            "columns": [{"name": "user", "side": "user"}, {"name": "item", "side": "item"}, *numbers],
            "tables": [{"files": ["items.csv"], "key": "item", "columns": ["theta", "over"]}],
            "split": {"method": "column", "column": "part"}}
    parsed = DataSpec.parse(spec, "spec")
    held = prepare([tmp_path / "rows.csv"], parsed, tmp_path / "out", tables_from=tmp_path)

    def config(column: str) -> RunConfig:
        said = {"name": "relmf", "embedding": {"dim": 4}, "propensity": column}
        trained = {"epochs": 2, "device": "cpu"}
        return RunConfig.parse({"model": said, "data": "x", "train": trained}, "run").resolved()

    task, made = begin(config("theta"), held)
    names = pl.read_parquet(held.folder / "encoding/item.parquet").sort("id")["value"].to_list()
    right = torch.tensor([thetas[int(name[1:])] for name in names])
    torch.testing.assert_close(made.theta, right)
    counts = torch.bincount(held.lists("train").items, minlength=12)
    ranks = task.ranking(made, task.valid)
    usual = popularity_propensities(counts)[ranks.items]
    found = task.evaluate(made, task.valid, 0).metrics["snips_dcg@5"]
    assert found == pytest.approx(float(snips_dcg(ranks.ranks, 5, usual).mean()))
    row = train(config("theta"), held, tmp_path / "run", say=lambda line: None, callbacks=[Callback()])
    assert row.status == "done"
    assert "propensity" not in identity(config(""), "d")["model"]
    assert identity(config("theta"), "d")["model"]["propensity"] == "theta"
    for column, said in (("over", r"column over: 10 of 12 items have no propensity above 0 and at most 1"),
                         ("theme", r"no numeric column 'theme'; choose one of \['theta', 'over'\]")):
        with pytest.raises(InputError, match=said):
            train(config(column), held, tmp_path / column, say=lambda line: None, callbacks=[Callback()])
        assert not (tmp_path / column).exists()


def test_batches_hold_clicks_with_replacement_and_unlabelled_pairs_of_all_users():
    held = data()
    task = RankingTask(held, 2, drawn_from="users")
    clicks = set(zip(*(t.tolist() for t in held.lists("train").pairs()), strict=True))
    torch.manual_seed(0)
    batch = task.train.on(torch.device("cpu")).batch(torch.arange(400))
    drawn = list(zip(batch.user.tolist(), batch.pos.tolist(), strict=True))
    assert set(drawn) <= clicks
    assert len(set(drawn)) < 400
    free = list(zip(batch.neg_users().flatten().tolist(), batch.neg.flatten().tolist(), strict=True))
    assert len(free) == 800
    assert not clicks & set(free)
    assert bool((batch.neg_users() != batch.user[:, None]).any())
    assert torch.equal(batch.rows(3, 5).neg_users(), batch.neg_users()[3:5])
