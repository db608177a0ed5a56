"""Models of pairs with few and with many negatives: a step by the kernels is that of torch."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.nn import kernels
from recsys_zoo.nn.rowpairs import SideOfPairs
from recsys_zoo.nn.table import Lookup
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.optim import Optimizer
from tests import toys

BY_TABLES = [  # tables may be updated by rows
    ("cml", {}),
    ("mf", {"l2": 0.3}),
    ("mf", {"loss": "cross_entropy", "l2": 0.0}),
    ("mf.ccl", {"margin": 0.1, "l2": 0.3}),
    ("mf.softmax", {}),
]
CASES = [(*case, way) for case in BY_TABLES for way in ("autograd", "exact", "rows")]
CASES += [("simplex.mf_ccl", {"margin": 0.1}, "autograd"), ("ultragcn", {}, "autograd")]


@pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize(("name", "settings", "table_update"), CASES, ids=str)
def test_a_step_by_the_kernel_is_that_of_torch(monkeypatch, name, settings, table_update):
    """Losses by term, and what a step moves, in every mode of the tables that the model has."""
    pairs = Pairs(torch.tensor([0, 1, 1]), torch.tensor([1, 4, 0]), torch.randint(6, (3, 10)), torch.ones(3))
    found = []
    for enabled in (False, True):
        monkeypatch.setattr(kernels, "enabled", enabled)
        monkeypatch.setattr(kernels, "called", False)
        model = create(name, toys.ranking(2, 6), embedding={"dim": 5}, seed=1, negatives=10, **settings)
        model.prepare(toys.lists([[0, 1, 0, 0, 1, 0], [1, 0, 0, 1, 1, 0]]))
        optimizer = Optimizer(model, TrainConfig(table_update=table_update, table_l2=0.01), lr=0.05)
        optimizer.begin()
        terms = model.losses(pairs)
        sum(terms.values()).backward()
        assert kernels.called == enabled
        optimizer.step()
        optimizer.release()
        found.append([*(terms[name].detach() for name in sorted(terms)), *model.vectors()])
    for mine, right in zip(*found, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler")
@pytest.mark.parametrize("batches", [1, 2])  # before a step
@pytest.mark.parametrize("table_update", ["exact", "rows"])
@pytest.mark.parametrize("settings", [{}, {"l2": 0.0, "negatives": 3}, {"sampler": "hard"},
                                      {"loss": "sampled_softmax", "l2": 0.3}], ids=str)
def test_few_negatives_are_read_where_they_stand(monkeypatch, settings, table_update, batches):
    """The same losses, and the same step, as where their rows are copied by torch."""
    g = torch.Generator().manual_seed(3)
    found = []
    for enabled in (False, True):
        monkeypatch.setattr(kernels, "enabled", enabled)
        model = create("mf", toys.ranking(9, 30), embedding={"dim": 5}, seed=1, **settings)
        model.prepare(toys.lists([[0, 1, 0] * 10] * 9))
        optimizer = Optimizer(model, TrainConfig(table_update=table_update, clip_norm=0.02), lr=0.05)
        optimizer.begin()
        g.manual_seed(3)
        for _ in range(batches):
            drawn = (torch.randint(size, shape, generator=g) for size, shape in (
                (9, (40,)), (30, (40,)), (30, (40, model.negatives))))
            terms = model.losses(Pairs(*drawn, torch.ones(40)))
            sum(terms.values()).backward()
        read = [type(one) is SideOfPairs for table in (model.user_table, model.item_table)
                for one in table.tables()[0].tape]
        assert all(read) if enabled else not any(read)
        optimizer.step()
        optimizer.release()
        found.append([*(terms[name].detach() for name in sorted(terms)), *model.vectors()])
    for mine, right in zip(*found, strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "negatives"), [("mf.softmax", 3), ("mf.directau", 0)])
def test_what_needs_vectors_is_given_them(monkeypatch, name, negatives):
    """Cosines, and losses of whole batches, by lookups."""
    monkeypatch.setattr(kernels, "enabled", kernels.compiler() is not None)
    model = create(name, toys.ranking(9, 30), embedding={"dim": 5}, seed=1, negatives=negatives)
    Optimizer(model, TrainConfig(table_update="rows"), lr=0.05).begin()
    model.losses(Pairs(torch.arange(4), torch.arange(4), torch.ones(4, negatives).long(), torch.ones(4)))
    assert [type(one) for one in model.user_table.tables()[0].tape] == [Lookup]
