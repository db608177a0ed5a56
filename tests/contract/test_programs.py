"""Every model: baked, exported and compiled forms agree with the model itself."""

from __future__ import annotations

import copy
import io
import shutil
import subprocess

import pytest
import torch
import torch.nn.functional as F

from recsys_zoo.batch import Inputs
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
    """Both are compared with double precision: where terms cancel (a bias before batch normalisation), eager
    rounding errors are as large as what is left, and a compiled program may have ten times those."""
    model = harness.make(name).train()
    exact = copy.deepcopy(model).double()
    x, y = toys.planted(toys.MIXED, harness.ROWS)
    doubled = Inputs(x.ids, x.numeric.double(), x.bags)
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    results = []
    for function, owner, inputs in ((model, model, x), (compiled, model, x), (exact, exact, doubled)):
        owner.zero_grad()
        logits = function(inputs)
        F.binary_cross_entropy_with_logits(logits, y.to(logits.dtype)).backward()
        gradients = {k: p.grad.clone() for k, p in owner.named_parameters()}
        results.append({"logits": logits.detach(), **gradients})
    for key, right in results[2].items():
        eager, found = ((result[key].double() - right).abs() for result in results[:2])
        # gradients of tables are of the size of the weights, 1e-4
        allowed = (1e-4 if key == "logits" else 1e-3) * right.abs() + 1e-7 + 10 * eager.max()
        assert (found <= allowed).all(), f"{key}: {float((found - allowed).max()):.1e} more than allowed"
