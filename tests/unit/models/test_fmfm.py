"""FmFM and FvFM against their equations and their reductions to FM, FwFM and LR."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from recsys_zoo import create
from recsys_zoo.batch import Inputs
from recsys_zoo.errors import InputError
from tests import toys

WIDE = {"dim": 5, "init_std": 0.5}
PAIRS = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
BOTH = ["fmfm", "fmfm.vector"]


def matrices(model) -> torch.Tensor:
    """M_ij [P, 5, 5] of a model with fields of width 5."""
    if model.cfg.interaction == "matrix":
        return model.weight.view(-1, 5, 5)
    return torch.diag_embed(model.weight.view(-1, 5))


def set_to_identity(model, factors: torch.Tensor) -> None:
    with torch.no_grad():
        weights = torch.eye(5) if model.cfg.interaction == "matrix" else torch.ones(5)
        model.weight.copy_((factors.view(-1, *[1] * weights.dim()) * weights).flatten())


def test_hand_example():
    """e_1 = (1, 2), e_2 = (3, -1), M = [[0, 1], [2, 1]]: (1, 2) (-1, 5)^T = 9; FvFM with (2, 3): 0."""
    for name, weights, expected in (("fmfm", [0.0, 1.0, 2.0, 1.0], 9.0), ("fmfm.vector", [2.0, 3.0], 0.0)):
        model = create(name, toys.one_hot_schema(2, 2), embedding={"dim": 2})
        for column, vector in (("c0", [1.0, 2.0]), ("c1", [3.0, -1.0])):
            model.embedding.load_rows(column, torch.tensor([[0.0, 0.0], vector]))
            model.linear.embedding.load_rows(column, torch.zeros(2, 1))
        with torch.no_grad():
            model.weight.copy_(torch.tensor(weights))
        x = Inputs(torch.ones(1, 2, dtype=torch.int32), torch.zeros(1, 0), {})
        assert model(x).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", BOTH)
def test_equals_the_double_loop(name):
    model = create(name, toys.MIXED, embedding=WIDE)
    nn.init.normal_(model.weight)
    x = toys.inputs(toys.MIXED, 20)
    e = model.embedding(x)
    total = model.linear(x)
    for matrix, (i, j) in zip(matrices(model), PAIRS, strict=True):
        total = total + torch.einsum("bi,ij,bj->b", e[:, i], matrix, e[:, j])
    torch.testing.assert_close(model(x), total, rtol=1e-5, atol=1e-5)  # sums of 150 terms of about 1


def test_fields_may_have_their_own_widths():
    """Four fields of widths 3, 2, 2, 4: the matrices are d_i x d_j."""
    settings = {"dim": 2, "init_std": 0.5, "widths": {"user": 3, "item": 4}}
    model = create("fmfm", toys.MIXED, embedding=settings)
    x = toys.inputs(toys.MIXED, 20)
    e = model.embedding.flat(x).split((3, 2, 2, 4), 1)
    sizes = [e[i].shape[1] * e[j].shape[1] for i, j in PAIRS]
    total = model.linear(x)
    for block, (i, j) in zip(model.weight.split(sizes), PAIRS, strict=True):
        total = total + torch.einsum("bi,ij,bj->b", e[i], block.view(e[i].shape[1], -1), e[j])
    torch.testing.assert_close(model(x), total)
    with pytest.raises(InputError, match="equal width"):
        create("fmfm.vector", toys.MIXED, embedding=settings)


@pytest.mark.parametrize("name", BOTH)
def test_with_identities_it_is_fm_and_without_weights_lr(name):
    model, fm = create(name, toys.MIXED, embedding=WIDE), create("fm", toys.MIXED, embedding=WIDE)
    fm.load_state_dict({k: v for k, v in model.state_dict().items() if k != "weight"})
    x = toys.inputs(toys.MIXED, 20)
    set_to_identity(model, torch.ones(6))
    torch.testing.assert_close(model(x), fm(x), rtol=1e-5, atol=1e-5)  # FM takes squares of sums
    nn.init.zeros_(model.weight)
    torch.testing.assert_close(model(x), fm.linear(x))


@pytest.mark.parametrize("name", BOTH)
def test_with_multiples_of_the_identity_it_is_fwfm(name):
    model = create(name, toys.MIXED, embedding=WIDE)
    fwfm = create("fwfm", toys.MIXED, linear_type="LW", embedding=WIDE)
    fwfm.embedding.load_state_dict(model.embedding.state_dict())
    fwfm.linear.embedding.load_state_dict(model.linear.embedding.state_dict())
    set_to_identity(model, fwfm.pair_weights.detach())
    x = toys.inputs(toys.MIXED, 20)
    torch.testing.assert_close(model(x), fwfm(x))


def test_fmfm_with_diagonal_matrices_is_fvfm():
    vector, matrix = (create(name, toys.MIXED, seed=1, embedding=WIDE) for name in ("fmfm.vector", "fmfm"))
    state = {**vector.state_dict(), "weight": matrices(vector).flatten()}
    matrix.load_state_dict(state)
    x = toys.inputs(toys.MIXED, 20)
    torch.testing.assert_close(matrix(x), vector(x))


@pytest.mark.parametrize(("name", "weights"), [("fmfm", 45 * 100), ("fmfm.vector", 45 * 10)])
def test_parameters_and_initial_weights(name, weights):
    """F (F - 1) / 2 matrices of d^2, or vectors of d, beside those of FM."""
    model = create(name, toys.frappe_shape(), embedding={"dim": 10})
    assert model.num_parameters() == 59280 + weights
    std = (2 / (100 + 450)) ** 0.5 if name == "fmfm" else (2 / 55) ** 0.5
    assert model.weight.std().item() == pytest.approx(std, rel=0.1)  # 450 draws: 3 standard errors


@pytest.mark.parametrize("name", BOTH)
def test_one_field_has_no_pairs(name):
    model = create(name, toys.schema(toys.categorical("a", 5)), embedding=WIDE)
    x = toys.inputs(model.schema, 6)
    assert model.weight.numel() == 0
    torch.testing.assert_close(model(x), model.linear(x))


def test_bad_settings_are_refused():
    with pytest.raises(InputError, match="interaction = 'matrixed'"):
        create("fmfm", toys.MIXED, interaction="matrixed")
