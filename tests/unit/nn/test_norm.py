"""Batch normalisation, alone and with ReLU and dropout: the C++ kernel against torch's modules."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from recsys_zoo.nn import kernels
from recsys_zoo.nn.activation import relu_dropout
from recsys_zoo.nn.norm import BatchNorm, BatchNormReLUDropout, batch_norm_relu_dropout
from tests import toys
from tests.contract import harness

needs_compiler = pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler on this machine")


@pytest.fixture
def on(monkeypatch) -> None:
    """With the kernel; that it ran is checked at the end."""
    monkeypatch.setattr(kernels, "enabled", True)
    monkeypatch.setattr(kernels, "called", False)
    yield
    assert kernels.called


def made(width: int, rate: float | None = 0.0) -> BatchNorm:
    """A layer in training with factors of both signs; without a rate, the norm alone."""
    layer = BatchNorm(width) if rate is None else BatchNormReLUDropout(width, rate)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer


def double(layer: BatchNorm) -> nn.BatchNorm1d:
    """torch's own layer with the same numbers, in double precision."""
    norm = nn.BatchNorm1d(layer.num_features).double()
    norm.load_state_dict({name: value.double() for name, value in layer.state_dict().items()})
    return norm


def distance(found: Tensor, right: Tensor) -> float:
    return float((found.double() - right).detach().abs().max())


def compared(layer: BatchNorm, x: Tensor) -> None:
    """Output, gradients and state of the layer on x against torch in double precision.

    Tolerances are some roundings of float32 (6e-8), of numbers around 1: of outputs; of a gradient's factor
    weight / deviation; of sums over rows, whose errors grow with the root of their number.
    """
    norm, same, kept = double(layer), x.detach().double().requires_grad_(), 1 / (1 - layer.rate)
    deviation = (same.var(0, correction=0) + norm.eps).sqrt()
    line = norm.weight * (same - same.mean(0)) / deviation + norm.bias
    torch.testing.assert_close(norm(same), line)  # also moves the averages
    y = layer(x)
    passes = (y > 0).detach() if layer.relu else torch.ones_like(y, dtype=torch.bool)
    assert distance(y, torch.where(passes, line * kept, 0.0)) < 1e-5
    if layer.relu and not layer.rate:
        assert not (line > 1e-5)[~passes].any()  # closer to 0, rounding decides on the side
    up = torch.randn_like(x)
    gradients = torch.autograd.grad((y * up).sum(), (x, layer.weight, layer.bias))
    wanted = torch.autograd.grad((line * up * passes * kept).sum(), (same, norm.weight, norm.bias))
    factor = (norm.weight / deviation).detach()
    assert distance(gradients[0] / factor, wanted[0] / factor) < 2e-5
    for found, right in zip(gradients[1:], wanted[1:], strict=True):
        assert distance(found, right) < 3e-6 * len(x) ** 0.5
    for name, right in norm.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name].double(), right.double(), rtol=1e-6, atol=1e-6)


SHAPES = [(2, 1), (2, 33), (5, 17), (64, 64), (65, 130), (200, 400), (4096, 1), (4096, 17), (4096, 400)]


@needs_compiler
@pytest.mark.parametrize(("threads", "rate"), [(1, 0.0), (2, 0.3), (1, None), (2, None)])
@pytest.mark.parametrize(("rows", "width"), SHAPES)
def test_the_kernel_equals_torch_in_double_precision(on, rows, width, threads, rate):
    torch.set_num_threads(threads)
    x = torch.randn(rows, width) * (0.5 + 3 * torch.rand(width)) + torch.randn(width)
    compared(made(width, rate), x.requires_grad_())


@needs_compiler
@pytest.mark.parametrize("rate", [0.0, None])
def test_strided_input_and_gradient(on, rate):
    layer, x = made(50, rate), torch.randn(50, 70, requires_grad=True)
    compared(layer, x.t())
    (gradient,) = torch.autograd.grad(layer(x.t()).t().sum(), x)
    (wanted,) = torch.autograd.grad(layer(x.t().contiguous()).sum(), x)
    torch.testing.assert_close(gradient, wanted)


@needs_compiler
def test_a_large_mean_costs_no_digits(on):
    """Columns of mean 1e4 and spread 1: float32 keeps 1e-3 of such numbers, the sums nothing less."""
    layer, x = made(40), 1e4 + torch.randn(4096, 40)
    x[::7, :3] -= 2e4  # and rows apart from the rest
    norm, plain = double(layer), nn.BatchNorm1d(40)
    plain.load_state_dict(layer.state_dict())
    y, expected = layer(x), norm(x.double()).relu()
    assert distance(y, expected) < min(2e-6, distance(plain(x).relu(), expected))
    (found,) = torch.autograd.grad(y.sum(), layer.weight)
    (wanted,) = torch.autograd.grad(expected.sum(), norm.weight)
    assert distance(found, wanted) < 1e-5 * float(wanted.abs().max())
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(getattr(layer, name).double(), getattr(norm, name), rtol=2e-7, atol=0.0)


@needs_compiler
@pytest.mark.parametrize("value", [0.0, 0.1, -3e9])
def test_a_constant_column_becomes_its_height(on, value):
    layer, x = made(3), torch.full((100, 3), value, requires_grad=True)
    y = layer(x)
    torch.testing.assert_close(y, layer.bias.relu().expand(100, 3), rtol=1e-4, atol=1e-4)
    assert torch.autograd.grad(y.sum(), x)[0].isfinite().all()
    assert float((layer.running_var - 0.9).abs().max()) < 1e-6


@needs_compiler
@pytest.mark.parametrize("rate", [0.4, None])
def test_nan_stays_in_its_column(on, rate):
    layer, x = made(20, rate), torch.randn(70, 20, requires_grad=True)
    with torch.no_grad():
        x[5, 17] = float("nan")
    y = layer(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    for found in (y, gradient):
        assert found[:, 17].isnan().all()
        assert int(found.isnan().sum()) == 70
    assert layer.running_mean.isnan().nonzero().flatten().tolist() == [17]
    assert layer.running_var.isnan().nonzero().flatten().tolist() == [17]


@needs_compiler
@pytest.mark.parametrize("rate", [0.05, 0.5])
def test_the_kernel_drops_with_its_rate_everywhere(on, rate):
    """Shares over rows and over columns, within five standard deviations; other numbers at each call."""
    layer = BatchNormReLUDropout(498, rate)
    nn.init.zeros_(layer.weight)
    nn.init.ones_(layer.bias)
    torch.manual_seed(3)
    y = layer(torch.randn(2000, 498))
    torch.testing.assert_close(y[y > 0], torch.full_like(y[y > 0], 1 / (1 - rate)))
    dropped = (y == 0).double()
    for dimension, count in enumerate(dropped.shape):
        spread = (rate * (1 - rate) / count) ** 0.5
        assert float((dropped.mean(dimension) - rate).abs().max()) < 5 * spread
    again = layer(torch.randn(2000, 498))
    assert not torch.equal(again, y)
    torch.manual_seed(3)
    torch.randn(2000, 498)
    assert not torch.equal(layer(torch.randn(2000, 498)), again)


@needs_compiler
def test_threads_do_not_change_a_bit(on):
    x, found = torch.randn(700, 230, requires_grad=True), []
    start = made(230, 0.2)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(4)
        layer = copy.deepcopy(start)
        y = layer(x)
        gradients = torch.autograd.grad(y.square().sum(), (x, layer.weight, layer.bias))
        found.append((y, *gradients, layer.running_mean, layer.running_var))
    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


@needs_compiler
def test_without_a_rate_the_generator_stays_as_it_is(on):
    layer, x = made(4), torch.randn(5, 4)
    before = torch.get_rng_state()
    layer(x)
    assert torch.equal(torch.get_rng_state(), before)


@needs_compiler
@pytest.mark.parametrize("wanted", ["x", "weight", "bias"])
@pytest.mark.parametrize("rate", [0.0, None])
def test_only_some_gradients(on, wanted, rate):
    layer, x = made(8, rate), torch.randn(30, 8)
    full = x.clone().requires_grad_()
    leaves = (full, layer.weight, layer.bias)
    all_three = torch.autograd.grad(layer(full).square().sum(), leaves)
    right = dict(zip(("x", "weight", "bias"), all_three, strict=True))
    layer.requires_grad_(False)
    target = {"x": x, "weight": layer.weight, "bias": layer.bias}[wanted].requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), target)
    assert torch.equal(gradient, right[wanted])


RATES = [(None, False), (0.0, False), (0.5, False), (0.0, True), (0.5, True)]


@needs_compiler
@pytest.mark.parametrize(("rate", "behind"), RATES)
def test_the_kernel_under_compile(on, rate, behind):
    """Outputs, gradients and moving averages are those without compilation, over two steps."""
    linear, layer = nn.Linear(12, 30), made(30, rate)
    other = copy.deepcopy(layer)
    x = torch.randn(40, 12, requires_grad=True)

    def pass_through(norm: BatchNorm, x: Tensor) -> Tensor:
        return norm.after(linear, x) if behind else norm(linear(x))

    step = torch.compile(lambda v: pass_through(layer, v), backend="aot_eager", fullgraph=True)
    results = []
    for norm, call in ((layer, step), (other, lambda v: pass_through(other, v))):
        torch.manual_seed(5)
        leaves = (x, *linear.parameters(), norm.weight, norm.bias)
        for _ in range(2):
            y = call(x)
            results.append((y, *torch.autograd.grad(y.square().sum(), leaves)))
    for compiled, eager in zip(results[:2], results[2:], strict=True):
        for found, right in zip(compiled, eager, strict=True):
            torch.testing.assert_close(found, right)
    assert int(layer.num_batches_tracked) == 2
    for name, right in other.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], right)


@needs_compiler
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_behind_a_linear_layer_its_bias_moves_the_mean_alone(on, rate):
    linear, layer = nn.Linear(20, 50), made(50, rate)
    nn.init.normal_(linear.bias)
    x, other = torch.randn(300, 20, requires_grad=True), copy.deepcopy(layer)
    torch.manual_seed(6)
    y = layer.after(linear, x)
    torch.manual_seed(6)
    expected = other(linear(x))
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    for name, right in other.state_dict().items():
        torch.testing.assert_close(layer.state_dict()[name], right)
    found = torch.autograd.grad(y.square().sum(), (x, linear.weight, layer.weight, layer.bias, linear.bias))
    wanted = torch.autograd.grad(expected.square().sum(), (x, linear.weight, other.weight, other.bias))
    assert not found[4].any()
    for gradient, right in zip(found[:4], wanted, strict=True):
        assert distance(gradient, right.double()) < 1e-5 * float(right.abs().max())


def test_torch_too_gives_a_bias_before_a_norm_no_gradient():
    linear, layer = nn.Linear(20, 50), made(50, 0.0)
    x, other = torch.randn(300, 20), copy.deepcopy(layer)
    y, expected = layer.after(linear, x), other(linear(x))
    assert torch.equal(y, expected)
    found, wanted = ([*torch.autograd.grad(out.square().sum(), (linear.weight, norm.weight, linear.bias))]
                     for out, norm in ((y, layer), (expected, other)))
    assert all(map(torch.equal, found[:2], wanted[:2]))
    assert not found[2].any()
    assert wanted[2].any()  # rounding, of which Adam makes steps
    seen = []
    linear.register_forward_hook(lambda module, inputs, output: seen.append(output))
    layer.after(linear, x)
    assert len(seen) == 1


def separate(layer: BatchNorm) -> nn.Sequential:
    norm = nn.BatchNorm1d(layer.num_features)
    norm.load_state_dict(layer.state_dict())
    return nn.Sequential(norm, *[nn.ReLU(), nn.Dropout(layer.rate)] * layer.relu)


def outcome(call, x: Tensor) -> tuple[Tensor, Tensor]:
    """Output and gradient of x from the same random numbers."""
    torch.manual_seed(7)
    y = call(x)
    return y, torch.autograd.grad(y.float().square().sum(), x)[0]


@pytest.mark.parametrize("rate", [0.0, 0.3, None])
@pytest.mark.parametrize("kind", ["off", "evaluation", "double", "bfloat16", "autocast", "exported"])
def test_what_the_kernel_does_not_take_is_torch_bit_for_bit(monkeypatch, kind, rate):
    monkeypatch.setattr(kernels, "enabled", kind != "off")
    monkeypatch.setattr(kernels, "called", False)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: kind == "exported")
    dtype = {"double": torch.float64, "bfloat16": torch.bfloat16}.get(kind, torch.float32)
    layer, linear = made(17, rate), nn.Linear(17, 17)
    modules = separate(layer)
    for module in (layer, modules, linear):
        module.to(dtype).train(kind != "evaluation")
    x = torch.randn(30, 17, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        found = outcome(lambda v: layer.after(linear, v) if layer.relu else layer(linear(v)), x)
        wanted = outcome(lambda v: modules(linear(v)), x)
    assert all(map(torch.equal, found, wanted))
    assert all(map(torch.equal, layer.state_dict().values(), modules.state_dict().values()))
    assert not kernels.called


@pytest.mark.parametrize("enabled", [False, pytest.param(True, marks=needs_compiler)])
@pytest.mark.parametrize("shape", [(1, 6), (4, 5)], ids=["one row", "another width"])
def test_what_torch_refuses_is_refused(monkeypatch, enabled, shape):
    monkeypatch.setattr(kernels, "enabled", enabled)
    errors = []
    for layer in (nn.BatchNorm1d(6), BatchNorm(6), BatchNormReLUDropout(6, 0.1)):
        with pytest.raises((ValueError, RuntimeError)) as error:
            layer(torch.randn(shape))
        errors.append((error.type, str(error.value)))
    assert errors[0] == errors[1] == errors[2]


def test_places_in_a_sequence_are_those_of_separate_modules():
    for rate in (0.0, 0.2):
        parts = [nn.BatchNorm1d(3), *relu_dropout(rate)]
        both = [nn.Sequential(*made, nn.Linear(3, 2)) for made in (batch_norm_relu_dropout(3, rate), parts)]
        assert both[0].state_dict().keys() == both[1].state_dict().keys()
        both[0].load_state_dict(both[1].state_dict())


@needs_compiler
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dnn", {"hidden": (20, 20), "batch_norm": True}),
        ("dnn", {"hidden": (20, 20)}),
        ("finalnet", {"activation": "relu"}),
        ("qnn", {"batch_norm": True}),
        ("afn", {}),
        ("edcn", {"batch_norm": True}),
        ("nfm", {"pooling_batch_norm": True}),
    ],
)
def test_a_model_trains_the_same_with_and_without(monkeypatch, name, settings):
    """Losses over 10 steps: float32 rounding, and Adam's steps on what it leaves of 0, make a difference."""
    x, y = toys.planted(toys.MIXED, 64)
    histories = []
    for enabled in (False, True):
        monkeypatch.setattr(kernels, "enabled", enabled)
        monkeypatch.setattr(kernels, "called", False)
        histories.append(harness.losses(harness.make(name, **settings), x, y, 10))
        assert kernels.called == enabled
    assert histories[1] == pytest.approx(histories[0], abs=2e-3)
    assert histories[1][0] == pytest.approx(histories[0][0], abs=1e-6)
