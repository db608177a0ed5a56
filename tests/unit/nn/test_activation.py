"""ReLU with dropout: by torch, and by the C++ kernel in one pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo.nn import kernels
from recsys_zoo.nn.activation import ReLUDropout, relu_dropout

needs_compiler = pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler on this machine")


@pytest.fixture(params=[False, pytest.param(True, marks=needs_compiler)], ids=["torch", "kernel"])
def layer(request, monkeypatch) -> ReLUDropout:
    """A layer of rate 0.3 in training, with the kernel or without."""
    monkeypatch.setattr(kernels, "enabled", request.param)
    monkeypatch.setattr(kernels, "called", False)
    yield ReLUDropout(0.3)
    assert kernels.called == request.param


def test_values_and_gradients(layer):
    """Every number is 0 or max(x, 0) / 0.7; where it is not 0 the gradient passes, times 1 / 0.7."""
    x = torch.randn(37, 11, requires_grad=True)  # no multiple of 16
    torch.manual_seed(1)
    y = layer(x)
    full = x.detach().relu() / 0.7
    dropped = (y == 0) & (full > 0)
    torch.testing.assert_close(y.detach(), torch.where(dropped, 0.0, full))
    assert 0.15 < float(dropped.sum() / (full > 0).sum()) < 0.45
    weight = torch.randn(37, 11)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    torch.testing.assert_close(gradient, torch.where(y.detach() > 0, weight / 0.7, 0.0))
    torch.manual_seed(1)
    assert torch.equal(layer(x), y)
    assert not torch.equal(layer(x), y)


def test_strided_input_and_gradient(layer):
    x = torch.randn(24, 50, requires_grad=True)
    y = layer(x.t())
    torch.testing.assert_close(y.detach(), (x.detach().t() / 0.7).where(y != 0, 0.0))
    assert 0 < int((y > 0).sum()) < int((x > 0).sum())
    assert not (y.detach() > 0)[x.detach().t() <= 0].any()
    (gradient,) = torch.autograd.grad(y.t().sum(), x)
    torch.testing.assert_close(gradient, torch.where(y.detach().t() > 0, 1 / 0.7, 0.0))


def test_nan_stays(layer):
    x = torch.tensor([-1.0, float("nan"), 2.0]).expand(100, 3)
    assert torch.equal(layer(x).isnan(), x.isnan())


@needs_compiler
@pytest.mark.parametrize("rate", [0.01, 0.5, 0.9])
def test_the_kernel_drops_with_its_rate_everywhere(monkeypatch, rate):
    """Shares over rows, over columns and of neighbours dropped together, within five standard deviations."""
    monkeypatch.setattr(kernels, "enabled", True)
    torch.manual_seed(3)
    dropped = (ReLUDropout(rate)(torch.ones(2000, 500)) == 0).double()
    for dimension in (0, 1):
        count = dropped.shape[dimension]
        spread = (rate * (1 - rate) / count) ** 0.5
        assert float((dropped.mean(dimension) - rate).abs().max()) < 5 * spread
    for pair in (dropped[:, 1:] * dropped[:, :-1], dropped[1:] * dropped[:-1]):
        spread = (rate**2 * (1 - rate**2) / pair.numel()) ** 0.5
        assert abs(float(pair.mean()) - rate**2) < 8 * spread  # pairs that share a number are not independent


@needs_compiler
def test_the_kernel_does_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr(kernels, "enabled", True)
    held, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        torch.manual_seed(4)
        found.append(ReLUDropout(0.4)(torch.ones(333, 77)))
    torch.set_num_threads(held)
    assert torch.equal(*found)


@needs_compiler
def test_the_kernel_under_compile(monkeypatch):
    monkeypatch.setattr(kernels, "enabled", True)
    layer, x = ReLUDropout(0.5), torch.randn(40, 30, requires_grad=True)
    step = torch.compile(lambda v: layer(v).square().sum(), backend="aot_eager", fullgraph=True)
    torch.manual_seed(5)
    (compiled,) = torch.autograd.grad(step(x), x)
    torch.manual_seed(5)
    (eager,) = torch.autograd.grad(layer(x).square().sum(), x)
    torch.testing.assert_close(compiled, eager)


@pytest.mark.parametrize("enabled", [False, True])
def test_no_dropout_without_training_and_without_a_rate(monkeypatch, enabled):
    monkeypatch.setattr(kernels, "enabled", enabled)
    x = torch.randn(50, 20)
    assert torch.equal(ReLUDropout(0.5).eval()(x), x.relu())
    assert torch.equal(ReLUDropout(0.0)(x), x.relu())


def test_places_in_a_sequence_are_those_of_separate_modules():
    for rate, separate in ((0.0, [nn.ReLU()]), (0.2, [nn.ReLU(), nn.Dropout(0.2)])):
        both = [nn.Sequential(*made, nn.Linear(2, 2)) for made in (relu_dropout(rate), separate)]
        assert both[0].state_dict().keys() == both[1].state_dict().keys()
