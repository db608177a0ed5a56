"""Models with many negatives a pair: a step by the kernel of chosen rows is that of torch."""

from __future__ import annotations

import pytest
import torch

from recsys_zoo import create
from recsys_zoo.batch import Pairs
from recsys_zoo.nn import kernels
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
