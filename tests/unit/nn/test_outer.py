"""A linear layer on outer products, made some rows at a time, against F.linear on all of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from recsys_zoo.nn import outer
from recsys_zoo.nn.outer import project_outer


def drawn(rows: int, places: int, long: int, short: int, outputs: int) -> list[Tensor]:
    shapes = ((rows, places, long), (rows, places, short), (outputs, long * short), (outputs,))
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def whole(x: Tensor, y: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.linear((x[..., None] * y[..., None, :]).flatten(2), weight, bias)


def test_hand_example():
    """(1, 2) x (3, 4, 5): weights pick out x_0 y_2 and x_1 y_0."""
    weight = torch.tensor([[0.0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]])
    found = project_outer(torch.tensor([[[1.0, 2]]]), torch.tensor([[[3.0, 4, 5]]]), weight, torch.ones(2))
    assert found.tolist() == [[[6.0, 7.0]]]


@pytest.mark.parametrize("numbers", [1, 15 * 7, 1 << 18], ids=["one row", "some rows", "all rows"])
@pytest.mark.parametrize("shape", [(7, 3, 5, 3, 4), (6, 2, 3, 5, 1), (1, 1, 1, 1, 2)])
def test_values_and_gradients_are_those_of_the_whole(monkeypatch, numbers, shape):
    monkeypatch.setattr(outer, "_NUMBERS", numbers)
    inputs = drawn(*shape)
    found, right = project_outer(*inputs), whole(*inputs)
    torch.testing.assert_close(found, right)
    up = torch.randn_like(right)
    gradients = torch.autograd.grad(found, inputs, up)
    for gradient, wanted in zip(gradients, torch.autograd.grad(right, inputs, up), strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_strided_inputs():
    x, y, weight, bias = drawn(4, 3, 5, 2, 6)
    turned = [t.transpose(1, 2).contiguous().transpose(1, 2) for t in (x, y)]
    torch.testing.assert_close(project_outer(*turned, weight, bias), whole(x, y, weight, bias))


def test_under_compile():
    inputs = drawn(5, 2, 4, 3, 6)
    call = torch.compile(project_outer, backend="aot_eager", fullgraph=True)
    up = torch.randn(5, 2, 6, dtype=torch.float64)
    for found, right in zip(
        torch.autograd.grad(call(*inputs), inputs, up),
        torch.autograd.grad(whole(*inputs), inputs, up),
        strict=True,
    ):
        torch.testing.assert_close(found, right)


def test_autocast_and_export_take_the_whole(monkeypatch):
    inputs = [t.detach().float() for t in drawn(5, 2, 4, 3, 6)]
    monkeypatch.setattr(outer, "_project", None)
    with torch.autocast("cpu", torch.bfloat16):
        assert project_outer(*inputs).dtype == torch.bfloat16
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    assert torch.equal(project_outer(*inputs), whole(*inputs))


def test_the_products_are_never_kept():
    """What autograd saves is no larger than the inputs."""
    inputs, saved = drawn(40, 5, 16, 10, 3), []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (saved.append(t.numel()), t)[1], lambda t: t):
        project_outer(*inputs)
    assert saved
    assert max(saved) <= max(t.numel() for t in inputs)
