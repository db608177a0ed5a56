"""Every model: baked, exported and compiled forms agree with the model itself."""

from __future__ import annotations

import io
import shutil
import subprocess

import pytest
import torch
import torch.nn.functional as F

from tests import toys
from tests.contract import harness

each = pytest.mark.parametrize("name", harness.CTR)


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@each
def test_bake_keeps_outputs(name):
    model, x = harness.trained(name)
    expected = model(x)
    assert torch.equal(harness.bake(model)(x), expected)


@each
def test_export_reloads_and_agrees_at_another_batch_size(name):
    model, x = harness.trained(name)
    rows = torch.export.Dim("rows", min=1)
    columns = harness.flat(x)
    program = torch.export.export(
        harness.Flat(model), (columns,), strict=False, dynamic_shapes=({key: {0: rows} for key in columns},)
    )
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for count in (1, 5, 100):
        other = toys.inputs(toys.MIXED, count, seed=9)
        torch.testing.assert_close(loaded(harness.flat(other)), model(other), rtol=1e-5, atol=1e-6)


@each
def test_compiled_graph_agrees(name):
    """One graph without breaks, traced forward and backward."""
    _agrees(name, "aot_eager")


def _by_commit(count: int) -> list[str]:
    """Models drawn by the commit's hash, so that over time all of them are compiled."""
    git = shutil.which("git")
    head = subprocess.run([git, "rev-parse", "HEAD"], capture_output=True, text=True).stdout if git else ""
    start = int(head.strip() or "0", 16)
    return [harness.CTR[(start + i * (len(harness.CTR) // count)) % len(harness.CTR)] for i in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize("name", _by_commit(3))
def test_inductor_agrees(name):
    _agrees(name, "inductor")


def _agrees(name: str, backend: str) -> None:
    model = harness.make(name).train()
    x, y = toys.planted(toys.MIXED, harness.ROWS)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    results = []
    for function in (model, compiled):
        model.zero_grad()
        logits = function(x)
        F.binary_cross_entropy_with_logits(logits, y).backward()
        results.append((logits, {k: p.grad.clone() for k, p in model.named_parameters()}))
    # other kernels round differently; gradients of tables are of the size of the weights, 1e-4
    torch.testing.assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=1e-3, atol=1e-7)
