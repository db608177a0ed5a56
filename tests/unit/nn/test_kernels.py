"""The C++ attention kernel against torch in double precision, and what happens where it cannot be used."""

from __future__ import annotations

import contextlib
import os
import signal
import threading

import pytest
import torch

from recsys_zoo.nn import kernels
from recsys_zoo.nn.attention import attend, attend_with_weights, project_and_attend
from tests import toys
from tests.contract import harness

needs_compiler = pytest.mark.skipif(kernels.compiler() is None, reason="no C++ compiler on this machine")
SHAPES = [(1, 1, 4), (2, 3, 1), (10, 4, 32), (16, 2, 16), (17, 1, 10), (39, 2, 20), (64, 1, 40)]


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """An empty cache folder and no library loaded; the switch goes back afterwards."""
    monkeypatch.setattr(kernels, "enabled", False)
    monkeypatch.setenv("RECSYS_ZOO_CACHE", str(tmp_path))
    kernels.library.cache_clear()
    yield tmp_path
    kernels.library.cache_clear()


@pytest.fixture
def on(monkeypatch):
    monkeypatch.setattr(kernels, "enabled", True)


def used(projected: torch.Tensor, heads: int) -> bool:
    """Whether the kernel took part: its node stands behind the output."""
    node = attend(projected, heads).grad_fn
    return any("field_attention" in type(n).__name__ for n in (node, *(n for n, _ in node.next_functions)))


@needs_compiler
@pytest.mark.parametrize(("fields", "heads", "columns"), SHAPES)
def test_forward_and_backward_equal_torch_in_double_precision(on, fields, heads, columns):
    exact = torch.randn(37, fields, 3 * heads * columns, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(37, fields, heads * columns, dtype=torch.float64)
    projected = exact.detach().float().requires_grad_()
    assert used(projected, heads)
    out, expected = attend(projected, heads, 0.7), attend_with_weights(exact, heads, 0.7)[0]
    # float32 sums of up to 64 products of numbers around 1
    torch.testing.assert_close(out.double(), expected, rtol=2e-5, atol=2e-5)
    (gradient,) = torch.autograd.grad((out * weight.float()).sum(), projected)
    (wanted,) = torch.autograd.grad((expected * weight).sum(), exact)
    torch.testing.assert_close(gradient.double(), wanted, rtol=2e-4, atol=2e-4)


@needs_compiler
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("blocks", [3, 4])
@pytest.mark.parametrize("skipped", [False, True])
def test_what_is_added_and_a_relu_equal_torch_in_double_precision(on, monkeypatch, blocks, skipped, relu):
    exact = [torch.randn(150, 7, n, dtype=torch.float64, requires_grad=True) for n in (12 * blocks, 12)]
    weight = torch.randn(150, 7, 12, dtype=torch.float64)
    inputs = [t.detach().float().requires_grad_() for t in exact]

    def run(projected, added):
        return attend(projected, 3, 0.7, blocks=blocks, skip=added if skipped else None, relu=relu)

    out = run(*inputs)
    gradients = torch.autograd.grad((out * weight.float()).sum(), inputs, allow_unused=True)
    monkeypatch.setattr(kernels, "enabled", False)
    expected = run(*exact)
    wanted = torch.autograd.grad((expected * weight).sum(), exact, allow_unused=True)
    torch.testing.assert_close(out.double(), expected, rtol=2e-5, atol=2e-5)
    torch.testing.assert_close(gradients[0].double(), wanted[0], rtol=2e-4, atol=2e-4)
    assert (gradients[1] is not None) == (wanted[1] is not None) == skipped
    if skipped:
        torch.testing.assert_close(gradients[1].double(), wanted[1], rtol=2e-5, atol=2e-5)
    naive = attend_with_weights(exact[0][..., :36], 3, 0.7)[0]
    naive = naive + (exact[0][..., 36:] if blocks == 4 else 0) + (exact[1] if skipped else 0)
    torch.testing.assert_close(expected, naive.relu() if relu else naive)


def layer_inputs(fields, inputs, blocks, width, dtype=torch.float64):
    """x [150, fields, inputs], weight [blocks width, inputs] and weights of the outputs, in float32 too."""
    exact = [
        torch.randn(150, fields, inputs, dtype=dtype, requires_grad=True),
        (torch.randn(blocks * width, inputs, dtype=dtype) * inputs**-0.5).requires_grad_(),
    ]
    weight = torch.randn(150, fields, width, dtype=dtype)
    return exact, [t.detach().float().requires_grad_() for t in exact], weight


def error(found: torch.Tensor, right: torch.Tensor) -> float:
    """Against the largest number: a weight's gradient adds rows x fields products of both signs."""
    return float((found.double() - right.double()).abs().max().detach() / right.abs().max().detach())


@needs_compiler
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("fields", "heads", "inputs", "width", "blocks", "residual"),
    [
        (39, 2, 16, 64, 4, False),
        (39, 2, 64, 64, 3, True),
        (10, 4, 128, 128, 3, True),
        (7, 1, 48, 16, 3, False),
    ],
)
def test_a_whole_layer_equals_torch_in_double_precision(
    on, monkeypatch, fields, heads, inputs, width, blocks, residual, relu
):
    exact, given, weight = layer_inputs(fields, inputs, blocks, width)
    settings = {"blocks": blocks, "residual": residual, "relu": relu}
    out = project_and_attend(*given, heads, 0.5, **settings)
    assert "interacting_layer" in type(out.grad_fn).__name__
    gradients = torch.autograd.grad((out * weight.float()).sum(), given)
    monkeypatch.setattr(kernels, "enabled", False)
    expected = project_and_attend(*exact, heads, 0.5, **settings)
    wanted = torch.autograd.grad((expected * weight).sum(), exact)
    for found, right in zip((out, *gradients), (expected, *wanted), strict=True):
        assert error(found, right) < 5e-6


@needs_compiler
def test_a_whole_layer_drops_what_attention_to_its_projections_drops(on):
    """The same seed and places, whatever rows are taken together and in whatever threads."""
    _, (x, weight), up = layer_inputs(39, 64, 3, 64)
    held, found = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        rows = x.detach().repeat(2, 1, 1).requires_grad_()  # 300 rows: enough for two threads
        torch.manual_seed(5)
        out = project_and_attend(rows, weight, 2, 1.0, 0.3, residual=True, relu=True)
        found.append((out, *torch.autograd.grad((out * up.float().repeat(2, 1, 1)).sum(), (rows, weight))))
    torch.set_num_threads(held)
    torch.manual_seed(5)
    projected = torch.nn.functional.linear(rows, weight)
    separate = attend(projected, 2, 1.0, 0.3, skip=rows, relu=True)
    assert int((separate == 0).sum()) > 0
    wanted = torch.autograd.grad((separate * up.float().repeat(2, 1, 1)).sum(), (rows, weight))
    for one, two, right in zip(*found, (separate, *wanted), strict=True):
        assert max(error(one, right), error(two, right)) < 5e-6
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@needs_compiler
def test_layers_that_the_kernel_does_not_take(on):
    """Odd widths go to attention alone; under bf16, or when one row is added to all, torch does all."""
    projected = torch.randn(4, 5, 24)
    row = torch.randn(8)
    torch.testing.assert_close(attend(projected, 2, skip=row), attend(projected, 2) + row)
    _, (x, weight), _ = layer_inputs(5, 10, 3, 16)
    out = project_and_attend(x, weight, 2)
    assert "field_attention" in type(out.grad_fn).__name__
    _, (x, weight), _ = layer_inputs(5, 16, 3, 16)
    with torch.autocast("cpu", torch.bfloat16):
        out = project_and_attend(x, weight, 2)
    assert out.dtype == torch.bfloat16
    assert not kernels_behind(out)


def kernels_behind(out: torch.Tensor) -> bool:
    """Whether a kernel's node stands anywhere behind this output."""
    waiting, seen = [out.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [n for n, _ in node.next_functions]
    return any("field_attention" in type(n).__name__ or "interacting" in type(n).__name__ for n in seen)


@needs_compiler
def test_a_whole_layer_under_compile(on):
    _, (x, weight), _ = layer_inputs(9, 16, 3, 16)
    step = torch.compile(
        lambda v, w: project_and_attend(v, w, 2, 0.5, residual=True).square().sum(),
        backend="aot_eager",
        fullgraph=True,
    )
    compiled = torch.autograd.grad(step(x, weight), (x, weight))
    eager = torch.autograd.grad(
        project_and_attend(x, weight, 2, 0.5, residual=True).square().sum(), (x, weight)
    )
    for found, wanted in zip(compiled, eager, strict=True):
        torch.testing.assert_close(found, wanted)


@needs_compiler
def test_large_scores_and_nan(on):
    projected = torch.randn(3, 10, 24, requires_grad=True) * 1e3
    out = attend(projected, 2)
    torch.testing.assert_close(out, attend_with_weights(projected, 2)[0], rtol=1e-3, atol=1e-2)
    spoiled = projected.detach().clone()
    spoiled[1, 4, 0] = float("nan")  # a query: its own output alone
    bad = attend(spoiled, 2, relu=True).isnan()
    assert bad[1, 4, :4].all()
    assert int(bad.sum()) == 4


def dropped_weights(projected: torch.Tensor, heads: int, rate: float) -> torch.Tensor:
    """Weights after dropout [B, F queries, F keys] of a one-headed input, read off with values = identity."""
    fields = projected.shape[1]
    probe = torch.cat([projected[..., : 2 * fields], torch.eye(fields).expand(len(projected), -1, -1)], 2)
    return attend(probe.contiguous(), heads, 1.0, rate)


@needs_compiler
def test_dropout_rate_scaling_and_seed(on):
    projected = torch.randn(800, 12, 36, requires_grad=True)
    torch.manual_seed(3)
    first = dropped_weights(projected, 1, 0.3)
    torch.manual_seed(3)
    again = dropped_weights(projected, 1, 0.3)
    other = dropped_weights(projected, 1, 0.3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    plain = dropped_weights(projected, 1, 0.0)
    gone = first == 0
    # 115,200 draws: the standard deviation of their share is 0.00135
    assert abs(gone.double().mean() - 0.3) < 0.006
    for axis in (0, 1, 2):  # no row, query or key is favoured
        others = [a for a in range(3) if a != axis]
        share, count = gone.double().mean(others), gone.numel() / gone.shape[axis]
        assert (share - 0.3).abs().max() < 5 * (0.21 / count) ** 0.5
    torch.testing.assert_close(first[~gone], plain[~gone] / 0.7)


@needs_compiler
def test_backward_repeats_the_dropout_of_forward(on):
    projected = torch.randn(20, 6, 3 * 2 * 6, requires_grad=True)
    weight = torch.randn(20, 6, 12)
    torch.manual_seed(5)
    (gradient,) = torch.autograd.grad((attend(projected, 2, 0.5, 0.4) * weight).sum(), projected)
    torch.manual_seed(5)
    eye = torch.eye(6).repeat(1, 2).expand(20, -1, -1)
    probe = torch.cat([projected[..., :24], eye], 2)
    with torch.no_grad():
        dropped = attend(probe, 2, 0.5, 0.4).unflatten(2, (2, 6)).permute(2, 0, 1, 3)  # [H, B, queries, keys]
    exact = projected.detach().double().requires_grad_()
    q, k, v = exact.unflatten(2, (3, 2, 6)).permute(2, 3, 0, 1, 4)
    weights = (0.5 * q @ k.transpose(2, 3)).softmax(3) * (dropped != 0) / 0.6
    out = (weights @ v).permute(1, 2, 0, 3).flatten(2)
    (wanted,) = torch.autograd.grad((out * weight).sum(), exact)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-5)


@needs_compiler
def test_threads_do_not_change_the_result(on):
    projected = torch.randn(700, 10, 48, requires_grad=True)
    held, results = torch.get_num_threads(), []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        torch.manual_seed(1)
        out = attend(projected, 2, 1.0, 0.2)
        results.append((out, *torch.autograd.grad(out.square().sum(), projected)))
    torch.set_num_threads(held)
    for out, gradient in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(gradient, results[0][1])


@needs_compiler
def test_compiled_step_uses_it_and_agrees(on):
    projected = torch.randn(9, 5, 24, requires_grad=True)
    step = torch.compile(lambda p: attend(p, 2, 0.5).square().sum(), backend="aot_eager", fullgraph=True)
    (compiled,) = torch.autograd.grad(step(projected), projected)
    (eager,) = torch.autograd.grad(attend(projected, 2, 0.5).square().sum(), projected)
    torch.testing.assert_close(compiled, eager)


def test_other_types_and_shapes_take_torch(on):
    for projected in (torch.randn(2, 3, 12, dtype=torch.float64), torch.randn(2, 3, 12).bfloat16()):
        assert not used(projected.requires_grad_(), 2)
    assert not used(torch.randn(2, 129, 12, requires_grad=True), 2)


def test_without_a_compiler_torch_does_the_work(fresh, monkeypatch):
    monkeypatch.setattr(kernels, "compiler", lambda: None)
    assert kernels.enable() == "no C++ compiler here"
    assert not used(torch.randn(2, 3, 12, requires_grad=True), 2)


def test_a_failing_compiler_is_told(fresh, monkeypatch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'no such option' >&2\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setattr(kernels, "compiler", lambda: str(broken))
    assert kernels.enable() == "the compiler failed: no such option"
    assert not used(torch.randn(2, 3, 12, requires_grad=True), 2)
    assert not list(tmp_path.glob("*.so"))


def test_a_cache_folder_that_cannot_be_made_is_told(fresh, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("RECSYS_ZOO_CACHE", str(tmp_path / "file"))
    assert "file" in kernels.enable() or kernels.compiler() is None
    assert not kernels.enabled


@needs_compiler
def test_a_damaged_cache_is_compiled_again(fresh, monkeypatch):
    kernels.library("field_attention", FIELDS=3, HEADS=1, SIZE=2, BLOCKS=3, RELU=0)
    (built,) = fresh.glob("*.so")
    path = fresh / "other" / built.name
    path.parent.mkdir()
    path.write_bytes(built.read_bytes()[:1000])
    path.with_suffix(".sha256").write_text(built.with_suffix(".sha256").read_text(encoding="utf-8"))
    monkeypatch.setenv("RECSYS_ZOO_CACHE", str(path.parent))
    kernels.library.cache_clear()
    kernels.library("field_attention", FIELDS=3, HEADS=1, SIZE=2, BLOCKS=3, RELU=0)
    assert path.stat().st_size == built.stat().st_size


@needs_compiler
def test_a_user_without_a_home_is_told(fresh, monkeypatch):
    monkeypatch.delenv("RECSYS_ZOO_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def homeless() -> None:
        raise RuntimeError("no home directory")

    monkeypatch.setattr(kernels.Path, "home", homeless)
    assert kernels.enable() == "no home directory"


@needs_compiler
def test_a_shape_that_cannot_be_compiled_falls_back_with_a_word(fresh, monkeypatch, tmp_path):
    """A compiler that fails from the second call on, as one that runs out of memory would."""
    assert kernels.enable() == ""
    monkeypatch.setenv("CXX", str(tmp_path / "broken"))
    (tmp_path / "broken").write_text("#!/bin/sh\necho 'out of memory' >&2\nexit 1\n", encoding="utf-8")
    (tmp_path / "broken").chmod(0o755)
    projected = torch.randn(2, 3, 12, requires_grad=True)
    with pytest.warns(UserWarning, match="kernels are off from here on: the compiler failed: out of memory"):
        out = attend(projected, 2)
    assert torch.equal(out, attend_with_weights(projected, 2)[0])
    assert not kernels.enabled


@needs_compiler
def test_a_forked_child_does_not_wait_for_its_parents_threads(on):
    held = torch.get_num_threads()
    torch.set_num_threads(2)
    projected = torch.randn(600, 10, 48)
    expected = attend(projected, 2)
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        kernels.over_rows(600, lambda first, last: None)  # torch's own threads need not survive a fork
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    torch.set_num_threads(held)
    assert torch.equal(attend(projected, 2), expected)


@pytest.mark.parametrize("broken", [None, 0, 500])
def test_threads_share_rows_and_an_error_waits_for_all_of_them(broken):
    """Parts of equal size, the first one in the calling thread; the others end some time after it."""
    held, done, first_ended = torch.get_num_threads(), [], threading.Event()
    torch.set_num_threads(4)

    def part(first: int, last: int) -> None:
        if first == 0:
            threading.Timer(0.2, first_ended.set).start()
        else:
            assert first_ended.wait(20)
        done.append((first, last, threading.get_ident()))
        if first == broken:
            raise ArithmeticError("broken")

    with contextlib.nullcontext() if broken is None else pytest.raises(ArithmeticError, match="broken"):
        kernels.over_rows(1000, part, least=10)
    torch.set_num_threads(held)
    assert sorted(ends[:2] for ends in done) == [(0, 250), (250, 500), (500, 750), (750, 1000)]
    assert {ident for first, _, ident in done if first == 0} == {threading.get_ident()}


@needs_compiler
def test_a_negative_scale_takes_torch(on):
    projected = (torch.randn(3, 5, 24) * 40).requires_grad_()
    torch.testing.assert_close(attend(projected, 2, -0.5), attend_with_weights(projected, 2, -0.5)[0])


@needs_compiler
@pytest.mark.parametrize("name", ["autoint", "autoint.plus.official"])
def test_a_model_trains_the_same_with_and_without(monkeypatch, name):
    """Losses of AutoInt over 30 steps: float32 rounding alone makes a difference."""
    x, y = toys.planted(toys.MIXED, 64)
    histories = []
    for enabled in (False, True):
        monkeypatch.setattr(kernels, "enabled", enabled)
        monkeypatch.setattr(kernels, "called", False)
        histories.append(harness.losses(harness.make(name), x, y, 30))
        assert kernels.called == enabled
    assert histories[1] == pytest.approx(histories[0], abs=2e-3)
    assert histories[1][0] == pytest.approx(histories[0][0], abs=1e-6)
