"""ReLU with dropout: by torch, and by the C++ kernel in one pass."""

from __future__ import annotations

import copy

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


@needs_compiler
@pytest.mark.parametrize(("threads", "rate"), [(1, 0.0), (2, 0.3)])
@pytest.mark.parametrize(("rows", "width"), [(1, 1), (5, 17), (65, 130), (300, 400)])
def test_behind_a_linear_layer_the_kernel_equals_double_precision(monkeypatch, rows, width, threads, rate):
    """Output and gradients of x, weight and bias; sums of up to 300 products of numbers around 1."""
    monkeypatch.setattr(kernels, "enabled", True)
    torch.set_num_threads(threads)
    linear, x = nn.Linear(24, width), torch.randn(rows, 24, requires_grad=True)
    exact, same = copy.deepcopy(linear).double(), x.detach().double().requires_grad_()
    up = torch.randn(rows, width)
    y = ReLUDropout(rate).after(linear, x)
    assert "linear_relu_dropout" in type(y.grad_fn).__name__
    line, passes = exact(same), (y > 0).detach()
    torch.testing.assert_close(y.double(), torch.where(passes, line / (1 - rate), 0.0), rtol=0, atol=5e-6)
    dropped = (line > 1e-5) & ~passes  # closer to 0, rounding decides on the side
    share, count = float(dropped.sum() / (line > 1e-5).sum().clamp(min=1)), max(1, rows * width / 4)
    assert abs(share - rate) <= 5 * (rate * (1 - rate) / count) ** 0.5
    found = torch.autograd.grad((y * up).sum(), (x, linear.weight, linear.bias))
    wanted = torch.autograd.grad((line * up * passes / (1 - rate)).sum(), (same, exact.weight, exact.bias))
    for gradient, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(gradient.double(), right, rtol=1e-5, atol=1e-4)


@needs_compiler
def test_behind_a_linear_layer_threads_do_not_change_a_bit(monkeypatch):
    """Of what the kernel does: the gradients of x and weight are torch's products of it."""
    monkeypatch.setattr(kernels, "enabled", True)
    linear, x, found = nn.Linear(8, 230), torch.randn(700, 8), []
    for threads in (1, 2, 3):
        torch.manual_seed(4)
        torch.set_num_threads(threads)
        y = ReLUDropout(0.2).after(linear, x)
        found.append(torch.autograd.grad(y.square().sum(), linear.bias)[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@needs_compiler
def test_behind_a_linear_layer_only_some_gradients_and_nan(monkeypatch):
    monkeypatch.setattr(kernels, "enabled", True)
    linear, x = nn.Linear(3, 20), torch.randn(30, 3)
    x[4, 1] = float("nan")
    y = ReLUDropout(0.5).after(linear, x)
    assert y[4].isnan().all()
    assert int(y.isnan().sum()) == 20
    torch.manual_seed(1)
    one = torch.autograd.grad(ReLUDropout(0.5).after(linear, x).sum(), linear.weight)
    linear.weight.requires_grad_(False)
    torch.manual_seed(1)
    y = ReLUDropout(0.5).after(linear, x.requires_grad_())
    of_x, of_bias = torch.autograd.grad(y.sum(), (x, linear.bias))
    assert of_x.shape == x.shape
    assert of_bias.isnan().sum() == 0  # a gradient of 1 passes a NaN
    assert one[0].isnan()[:, 1].all()


@needs_compiler
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_behind_a_linear_layer_under_compile(monkeypatch, rate):
    monkeypatch.setattr(kernels, "enabled", True)
    layer, linear, x = ReLUDropout(rate), nn.Linear(30, 20), torch.randn(40, 30, requires_grad=True)
    step = torch.compile(lambda v: layer.after(linear, v).square().sum(), backend="aot_eager", fullgraph=True)
    leaves, results = (x, *linear.parameters()), []
    for call in (step, lambda v: layer.after(linear, v).square().sum()):
        torch.manual_seed(5)
        results.append(torch.autograd.grad(call(x), leaves))
    for compiled, eager in zip(*results, strict=True):
        torch.testing.assert_close(compiled, eager)


@pytest.mark.parametrize("kind", ["off", "evaluation", "double", "autocast", "without bias"])
def test_behind_a_linear_layer_without_the_kernel_it_is_torch_bit_for_bit(monkeypatch, kind):
    monkeypatch.setattr(kernels, "enabled", kind != "off")
    monkeypatch.setattr(kernels, "called", False)
    dtype = torch.float64 if kind == "double" else torch.float32
    linear = nn.Linear(9, 17, bias=kind != "without bias", dtype=dtype)
    x, layer = torch.randn(20, 9, dtype=dtype), ReLUDropout(0.0).train(kind != "evaluation")
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        assert torch.equal(layer.after(linear, x), linear(x).relu())
    assert not kernels.called
