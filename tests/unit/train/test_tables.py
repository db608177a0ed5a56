"""The three ways of updating tables: what must be equal is equal, and what must differ differs."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo.nn import kernels
from recsys_zoo.nn.table import Table
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.optim import Optimizer
from recsys_zoo.train.rules import RULES
from recsys_zoo.train.tables import TableOptimizer, sum_by_kernel, sum_duplicates, sum_duplicates_in_slots

from . import toys

needs_compiler = pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler")

CLIPS = {"inactive": 10.0, "active": 0.05}


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
@pytest.mark.parametrize("mode", ["autograd", "exact"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("store", ["dense", "hashed", "quotient_remainder"])
def test_dense_modes_equal_plain_torch(mode, clip, store, rule):
    settings = {"store": {"name": store, "buckets": 7, "min_vocab": 20}}
    model, reference = toys.twins(**settings)
    options = {"table_l2": 0.05, "net_l2": 0.01, "lr": 0.01, "optimizer": rule}
    norms = toys.ours(_seeded(model), 30, table_update=mode, clip_norm=clip, **options)
    expected = toys.oracle(_seeded(reference), 30, clip=clip, **options)
    assert (max(expected) > clip) == (clip == CLIPS["active"])  # the clip is really in that state
    assert norms == pytest.approx(expected, rel=1e-4)
    # fused and unfused Adam round differently; 30 steps of 1e-2 leave that much
    assert toys.difference(model, reference) < 2e-5


def _seeded(model):
    torch.manual_seed(5)  # both sides draw the same dropout masks
    return model


@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_exact_equals_autograd_closely(clip):
    model, twin = toys.twins()
    settings = {"table_l2": 0.1, "clip_norm": clip, "lr": 0.01}
    toys.ours(_seeded(model), 30, table_update="exact", **settings)
    toys.ours(_seeded(twin), 30, table_update="autograd", **settings)
    assert toys.difference(model, twin) < 2e-6


def test_exact_moves_untouched_rows_and_rows_mode_does_not():
    start = toys.toy()
    untouched = slice(start.embedding.groups["dense_6"].starts["user"] + 35, 55)
    moved = {}
    for mode in ("exact", "rows"):
        model = copy.deepcopy(start)
        toys.ours(_seeded(model), 3, table_update=mode, table_l2=0.1)
        before = start.embedding.groups["dense_6"].table.weight[untouched]
        after = model.embedding.groups["dense_6"].table.weight[untouched]
        moved[mode] = float((after - before).detach().abs().max())
    assert moved["exact"] > 1e-3
    assert moved["rows"] == 0


@pytest.mark.parametrize("l2", [0.0, 0.1])
def test_rows_mode_equals_dense_when_every_row_is_touched(l2):
    table_rows, dim = 9, 3
    g = torch.Generator().manual_seed(1)
    start = torch.randn(table_rows, dim, generator=g)
    start[0] = 0
    results = []
    for mode in ("rows", "autograd"):
        model = _OneTable(start)
        optimizer = Optimizer(
            model, TrainConfig(table_update=mode, table_l2=l2, lr=0.01, clip_norm=0.5), 0.01
        )
        for step in range(20):
            rows = torch.cat(
                [
                    torch.arange(table_rows),
                    torch.randint(0, 9, (20,), generator=torch.Generator().manual_seed(step)),
                ]
            )
            optimizer.begin()
            (model(rows) * torch.arange(dim)).square().sum().backward()
            optimizer.step()
        results.append(model.embedding.tables()[0].weight.detach().clone())
    assert float((results[0] - results[1]).abs().max()) < 2e-6
    assert results[0][0].abs().sum() == 0  # padding looked up in every step, still zero


class _OneTable(toys.Toy):
    """A model whose forward is one lookup."""

    def __init__(self, start: torch.Tensor) -> None:
        torch.nn.Module.__init__(self)
        schema = toys.SCHEMA.model_copy(
            update={"columns": (toys.SCHEMA.columns[1].model_copy(update={"vocab_size": len(start)}),)}
        )
        self.embedding = toys.Embedding(schema, toys.EmbeddingConfig(dim=start.shape[1]))
        with torch.no_grad():
            self.embedding.tables()[0].weight.copy_(start)

    def forward(self, rows):
        return self.embedding.rows("item", rows)


def test_rows_mode_follows_a_hand_written_loop():
    model, twin = toys.twins()
    toys.ours(_seeded(model), 12, table_update="rows", table_l2=0.05, clip_norm=0.3, lr=0.01)
    _rows_oracle(_seeded(twin), 12, l2=0.05, clip=0.3, lr=0.01)
    assert toys.difference(model, twin) < 2e-6


def _rows_oracle(model, steps, l2, clip, lr):
    """Rows mode spelt out: dense gradients, but only looked-up rows get L2, moments and a step."""
    tables = {id(t.weight): t for m in (model.embedding, model.linear.embedding) for t in m.tables()}
    numeric = {id(p) for m in (model.embedding, model.linear.embedding) for p in m.numeric.values()}
    moments = {id(p): (torch.zeros_like(p), torch.zeros_like(p)) for p in model.parameters()}
    model.train()
    for step in range(1, steps + 1):
        x, y = toys.inputs(64, step - 1)
        model.zero_grad()
        F.binary_cross_entropy_with_logits(model(x), y).backward()
        masks = {}
        for p in model.parameters():
            masks[id(p)] = torch.ones(len(p), dtype=torch.bool)
            if id(p) in tables:
                # a looked-up row has a non-zero gradient here: dropout 0.2 never kills all 16 hidden units
                masks[id(p)] = (p.grad != 0).any(1)
            if id(p) in tables or id(p) in numeric:
                p.grad[masks[id(p)]] += l2 * p.detach()[masks[id(p)]]
        norm = torch.stack([p.grad.square().sum() for p in model.parameters()]).sum().sqrt()
        factor = min(1.0, clip / (float(norm) + 1e-6))
        with torch.no_grad():
            for p in model.parameters():
                mask, (mean, square), g = masks[id(p)], moments[id(p)], p.grad * factor
                mean[mask] = 0.9 * mean[mask] + 0.1 * g[mask]
                square[mask] = 0.999 * square[mask] + 0.001 * g[mask] ** 2
                p[mask] -= (
                    lr * (mean[mask] / (1 - 0.9**step)) / ((square[mask] / (1 - 0.999**step)).sqrt() + 1e-8)
                )


def test_sum_duplicates_equals_index_add():
    g = torch.Generator().manual_seed(3)
    rows, grad = torch.randint(0, 50, (400,), generator=g), torch.randn(400, 5, generator=g)
    touched = sum_duplicates(rows, grad, 50)
    dense = torch.zeros(50, 5).index_add_(0, rows, grad)
    dense[0] = 0  # padding
    assert torch.equal(touched.rows, rows.unique())
    torch.testing.assert_close(touched.grad, dense[touched.rows], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("count", "size"), [(0, 5), (1, 5), (64, 1), (65, 2), (400, 50), (5000, 3), (999, 10**6)]
)
def test_sums_in_slots_equal_index_add(count, size):
    """Rows looked up once, rows in every place, runs that end at a multiple of 64 and beside it."""
    g = torch.Generator().manual_seed(count)
    rows, grad = torch.randint(0, size, (count,), generator=g), torch.randn(count, 5, generator=g)
    touched = sum_duplicates_in_slots(rows.int() if count % 2 else rows, grad)
    assert (touched.rows.shape, touched.rows.dtype) == ((count,), torch.int64)
    assert touched.grad.shape == (count, 5)
    dense = torch.zeros(size, 5, dtype=torch.float64).index_add_(0, rows, grad.double())
    dense[0] = 0  # padding
    found = torch.zeros(size, 5, dtype=torch.float64).index_add_(0, touched.rows, touched.grad.double())
    torch.testing.assert_close(found, dense, atol=1e-4 * max(1, count / size) ** 0.5, rtol=1e-6)
    real = touched.rows[touched.rows != 0]
    assert torch.equal(real.sort().values, rows[rows != 0].unique())  # each once
    assert touched.grad[touched.rows == 0].abs().sum() == 0


@needs_compiler
@pytest.mark.parametrize(
    ("count", "size"), [(0, 5), (1, 5), (64, 1), (65, 2), (400, 50), (5000, 3), (999, 10**6)]
)
def test_sums_by_the_kernel_equal_index_add(count, size):
    g = torch.Generator().manual_seed(count)
    rows = torch.randint(0, size, (count,), generator=g)
    grad = torch.randint(-9, 10, (count, 5), generator=g).float()  # sums of whole numbers are exact
    cut = count // 3
    tape = [(rows[:cut], grad[:cut]), (rows[cut:].int(), grad[cut:])] if count % 2 else [(rows, grad)]
    touched = sum_by_kernel(tape, torch.zeros(size, 5))
    dense = torch.zeros(size, 5).index_add_(0, rows, grad)
    dense[0] = 0  # padding
    assert torch.equal(torch.zeros(size, 5).index_copy_(0, touched.rows, touched.grad), dense)
    assert torch.equal(touched.rows.sort().values, rows[rows != 0].unique())  # each once


@needs_compiler
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("mode", "l2"), [("exact", 0.1), ("exact", 0.0), ("rows", 0.1), ("rows", 0.0)])
def test_training_by_the_kernel_equals_training_by_torch(mode, l2, rule, threads, monkeypatch):
    """The same arithmetic, added up in another order."""
    torch.set_num_threads(threads)
    model, twin = toys.twins()
    settings = {"table_update": mode, "table_l2": l2, "clip_norm": 0.3, "lr": 0.01, "optimizer": rule}
    toys.ours(_seeded(twin), 20, **settings)
    monkeypatch.setattr(kernels, "enabled", True)
    monkeypatch.setattr(kernels, "_NUMBERS_A_THREAD", 1)
    moved, move = [], TableOptimizer._move_by_kernel
    monkeypatch.setattr(TableOptimizer, "_move_by_kernel", lambda *given: (moved.append(1), move(*given)))
    toys.ours(_seeded(model), 20, **settings)
    assert bool(moved) == (mode == "rows" or (not l2 and rule != "adam"))
    assert toys.difference(model, twin) < 2e-6
    assert all(t.weight[0].abs().sum() == 0 for t in model.embedding.tables())  # padding


@pytest.mark.parametrize("mode", ["exact", "rows"])
def test_training_in_slots_equals_training_by_distinct_rows(mode, monkeypatch):
    model, twin = toys.twins()
    settings = {"table_update": mode, "table_l2": 0.1, "clip_norm": 0.3, "lr": 0.01}
    toys.ours(_seeded(twin), 20, **settings)
    in_slots = lambda rows, grad, size: sum_duplicates_in_slots(rows, grad)  # noqa: E731
    monkeypatch.setattr("recsys_zoo.train.tables.sum_duplicates", in_slots)
    toys.ours(_seeded(model), 20, **settings)
    assert toys.difference(model, twin) < 2e-6
    assert all(t.weight[0].abs().sum() == 0 for t in model.embedding.tables())  # slots without a row


@pytest.mark.parametrize("rule", ["adagrad", "sgd"])
@pytest.mark.parametrize("clip", CLIPS.values(), ids=CLIPS)
def test_rows_alone_move_as_all_do_where_no_gradient_is_no_step(rule, clip):
    model, reference = toys.twins()
    options = {"table_l2": 0.0, "net_l2": 0.01, "lr": 0.05, "optimizer": rule}
    toys.ours(_seeded(model), 30, table_update="rows", clip_norm=clip, **options)
    toys.oracle(_seeded(reference), 30, clip=clip, **options)
    assert toys.difference(model, reference) < 2e-5
    assert toys.difference(model, toys.toy()) > 1e-3


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("mode", ["autograd", "exact", "rows"])
def test_optimizer_state_resumes_bit_for_bit(mode, rule):
    settings = {"table_update": mode, "table_l2": 0.05, "lr": 0.01, "optimizer": rule}
    whole = toys.toy()
    cfg = TrainConfig(**settings)
    optimizer = Optimizer(whole, cfg, cfg.lr)
    for step in range(10):
        if step == 5:
            saved = {k: v.clone() for k, v in optimizer.state().items()}
            half = copy.deepcopy(whole.state_dict())
        _step(whole, optimizer, step)
    resumed = toys.toy()
    resumed.load_state_dict(half)
    again = Optimizer(resumed, cfg, cfg.lr)
    again.load_state(saved)
    for step in range(5, 10):
        _step(resumed, again, step)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


def _step(model, optimizer, seed):
    torch.manual_seed(seed)
    model.train()
    x, y = toys.inputs(64, seed)
    optimizer.begin()
    F.binary_cross_entropy_with_logits(model(x), y).backward()
    optimizer.step()


def test_accumulated_micro_batches_equal_one_batch():
    model, twin = toys.twins()
    for m, parts in ((model, 4), (twin, 1)):
        optimizer = Optimizer(
            m.eval().requires_grad_(), TrainConfig(table_update="exact", table_l2=0.1), 1e-3
        )
        for step in range(3):
            x, y = toys.inputs(64, step)
            m.train()
            m.dropout.p = 0.0
            optimizer.begin()
            for start in range(0, 64, 64 // parts):
                part = slice(start, start + 64 // parts)
                loss = F.binary_cross_entropy_with_logits(m(x.rows(part.start, part.stop)), y[part])
                (loss / parts).backward()
            optimizer.step()
    # Adam turns a rounding difference of a near-zero gradient into a visible one; three steps of 1e-3
    assert toys.difference(model, twin) < 2e-5


def test_a_stale_tape_and_a_whole_table_read_raise():
    model = toys.toy()
    optimizer = Optimizer(model, TrainConfig(table_update="rows"), 1e-3)
    x, _ = toys.inputs(8, 0)
    model.train()
    model(x)
    with pytest.raises(RuntimeError, match="never followed by an optimiser step"):
        optimizer.begin()
    with pytest.raises(ValueError, match="table_update='autograd'"):
        model.embedding.matrix("item")
    model.eval()
    assert model.embedding.matrix("item").shape == (40, 6)


def test_a_forward_in_eval_or_without_gradients_leaves_no_tape():
    table = Table(5, 2)
    table.taped = True
    table.weight.requires_grad_(False)
    with torch.no_grad():
        table(torch.tensor([1, 2]))
    table.eval()(torch.tensor([1, 2]))
    assert table.tape == []


def test_frozen_columns_stay_while_others_move():
    for mode in ("autograd", "exact", "rows"):
        model = toys.toy(frozen=("item",))
        before = model.embedding.matrix("item").detach().clone()
        user = model.embedding.matrix("user").detach().clone()
        toys.ours(model, 3, table_update=mode, table_l2=0.1)
        assert torch.equal(model.embedding.matrix("item"), before)
        assert not torch.equal(model.embedding.matrix("user"), user)
