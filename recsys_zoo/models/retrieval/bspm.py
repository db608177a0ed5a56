"""BSPM: the interactions are blurred and sharpened again on the graph of items (Choi et al., SIGIR 2023)."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...card import Card
from ...config import Flag, Frozen, Search
from ...itemlists import ItemLists
from ...registry import register
from .gfcf import ItemFilters

Solver = Literal["euler", "rk4"]
Merge = Literal["early", "late"]

_ORDER: dict[Solver, int] = {"euler": 1, "rk4": 4}


class BSPMConfig(Frozen):
    """Settings of BSPM; the defaults are those of the authors' command for Yelp18."""

    beta: Annotated[float, Search(low=0.05, high=1, log=True, zero=True)] = Field(
        0.3, ge=0, description="weight of the ideal low-pass filter; authors: 0.2 Gowalla, 0.3 Yelp18, "
        "0 Amazon-Book"
    )
    vectors: Annotated[int, Search(choices=(64, 128, 256, 384, 448, 512))] = Field(
        384, ge=1, description="singular vectors that the ideal filter lets pass; authors: 448 and 384"
    )
    blur_time: float = Field(1.0, gt=0, description="T_b, how long is blurred; authors: 1")
    blur_steps: int = Field(1, ge=1, description="K_b, Euler steps of the blurring; authors: 1")
    sharpen_time: Annotated[float, Search(low=0.2, high=3, when="sharpen_steps")] = Field(
        1.2, gt=0, description="T_s, how long is sharpened; authors: 2.5 Gowalla, 1.2 Yelp18, 2.2 Amazon-Book"
    )
    sharpen_steps: int = Field(
        1, ge=0, description="K_s, steps of the sharpening, 0: none; authors: 1, 2 on Amazon-Book"
    )
    solver: Annotated[Solver, Search(choices=("euler", "rk4"), when="sharpen_steps")] = Field(
        "euler", description="of the sharpening: Euler's or Runge and Kutta's steps; authors: rk4 elsewhere"
    )
    merge: Annotated[Merge, Search(choices=("early", "late"), when="sharpen_steps")] = Field(
        "early", description="where the ideal filter's result joins: before the sharpening or behind it"
    )
    average: Flag = Field(
        True, description="scores are the mean over all steps in place of the last; authors: on Yelp18 alone"
    )


@register
class BSPM(ItemFilters):
    """s_u = x(T_s), or the mean over the steps; dx/dt = -P x from the blurred P R_u + beta F R_u; P = N^T N.

    N and its ideal filter F are those of GF-CF, and memory too: B users at once take 4 B (U + 5 I) bytes.
    """

    card = Card(
        name="BSPM",
        family="retrieval",
        title="Blurring-Sharpening Process Models for Collaborative Filtering",
        authors="Choi, Hong, Park, Cho",
        year=2023,
        url="https://arxiv.org/abs/2211.09324",
        equations="blurring: dx/dt = P x - x from R_u, by Euler steps of T_b / K_b; ideal: F = D_I^-1/2 V "
        "V^T D_I^1/2; sharpening: dx/dt = -P x from the blurred x + beta F R_u (early merge) or x (late, "
        "then + beta F R_u), by K_s steps of T_s / K_s; P = N^T N, N = D_U^-1/2 R D_I^-1/2",
        notes=(
            "The authors' code blurs by the ideal filter in Euler steps too; in all of their commands that "
            "is one step of length 1, which is the filter itself.",
            "P does not change with time, so a step of any Runge-Kutta method of fourth order with four "
            "stages is the same polynomial of P; it is computed as that.",
            "With average, the mean is over the blurred points, to which nothing was added, and the "
            "sharpened ones, as in the code.",
            "Where the vectors are all there are, F only gives users their own items back, and sharpening "
            "turns these against what is like them: rk4 with the last point needs few vectors then.",
            "Items without users score 0; the authors' code divides by 0 there.",
            "The authors' numbers were not read again for this zoo and are not printed here.",
        ),
        faithful="code",
    )
    Config = BSPMConfig

    def _fit(self, train: ItemLists) -> None:
        self._fit_filters(train, self.cfg.vectors, self.cfg.beta)

    def _filtered(self, own: Tensor) -> Tensor:
        cfg = self.cfg
        ideal = own.new_zeros(()) if not self.outer.numel() else self.outer.T @ (self.inner.T @ own)
        step, now, total = cfg.blur_time / cfg.blur_steps, own, own.new_zeros(())
        for _ in range(cfg.blur_steps):
            now = (1 - step) * now + step * self._linear(now)
            total = total + now
        early = cfg.merge == "early" and cfg.sharpen_steps > 0
        now = now + ideal if early else now
        for _ in range(cfg.sharpen_steps):
            now = self._sharpened(now)
            total = total + now
        now = total / (cfg.blur_steps + cfg.sharpen_steps) if cfg.average else now
        return (now if early else now + ideal).T.contiguous()

    def _sharpened(self, x: Tensor) -> Tensor:
        """x [I, B] a step later: the solution exp(-h P) x, expanded up to the order of the solver."""
        step, term = self.cfg.sharpen_time / self.cfg.sharpen_steps, x
        for power in range(1, _ORDER[self.cfg.solver] + 1):
            term = self._linear(term) * (-step / power)
            x = torch.add(x, term)
        return x
