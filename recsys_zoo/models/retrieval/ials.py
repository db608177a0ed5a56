"""iALS: factors of users and items by alternating least squares over all pairs (Rendle, RecSys 2022)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ...card import Card
from ...config import Frozen, Search
from ...errors import InputError
from ...itemlists import ItemLists
from ...registry import register
from ...schema import Schema
from ..base import Scorer
from ..vectors import Placed

_LOST = 1e-5  # of the largest number of a system: so small a ridge needs double precision
_NUMBERS = 1 << 20  # in the largest tensor of the users who are solved at once: more leave the caches


class IALSConfig(Frozen):
    """Settings of iALS; the defaults are those of the authors' command for MovieLens-20M with d = 256."""

    dim: Annotated[int, Search(choices=(64, 128, 256, 512))] = Field(
        256, ge=1, description="width d of the factors; authors: up to 2048 (MovieLens-20M) and 8192 (MSD)"
    )
    l2: Annotated[float, Search(low=1e-4, high=0.1, log=True)] = Field(
        0.003, gt=0, description="lambda; authors: 0.003 MovieLens-20M, 0.002 MSD, 0.007 MovieLens-1M"
    )
    alpha0: Annotated[float, Search(low=1e-3, high=1, log=True)] = Field(
        0.1, gt=0, description="weight of all pairs; authors: 0.1 MovieLens-20M, 0.02 MSD, 0.3 MovieLens-1M"
    )
    nu: Annotated[float, Search(low=0, high=1)] = Field(
        1.0, ge=0, description="how the regularisation grows with frequency: 0 not at all, 1 like the errors"
    )
    epochs: Annotated[int, Search(low=4, high=32)] = Field(16, ge=1, description="solves of users and items")
    block: int = Field(
        64, ge=1, description="coordinates that are solved together (iALS++); d or more: all of them"
    )
    init_std: float = Field(0.1, gt=0, description="sigma: initial factors are N(0, sigma^2 / d)")


@register
class IALS(Scorer):
    """s_ui = <p_u, q_i>; p and q minimise the loss of `half_step` in turns.

    Memory: 4 d bytes a user and an item; the fit adds a few MiB, or 4 d bytes an item of the longest list.
    """

    card = Card(
        name="iALS",
        family="retrieval",
        title="Revisiting the Performance of iALS on Item Recommendation Benchmarks",
        authors="Rendle, Krichene, Zhang, Koren",
        year=2022,
        url="https://arxiv.org/abs/2110.14037",
        equations="L = sum_{R_ui = 1} (s_ui - 1)^2 + alpha0 sum_ui s_ui^2 + "
        "lambda (sum_u (|R_u| + alpha0 I)^nu |p_u|^2 + sum_i (|R_i| + alpha0 U)^nu |q_i|^2); "
        "p_u = (Q_u^T Q_u + alpha0 Q^T Q + lambda (|R_u| + alpha0 I)^nu)^-1 Q_u^T 1, q_i alike",
        notes=(
            "Blocks of coordinates are solved one after the other as in iALS++ (Rendle et al., "
            "arXiv:2110.14044); block = dim is the solution of all at once.",
            "Users are solved once more for the final items, as the authors do for users who are held out; "
            "lists of others are solved for all coordinates at once, whatever block is.",
            "Its authors' numbers are of other protocols than the boards of this zoo and not printed here.",
        ),
    )
    Config = IALSConfig
    seeded = True
    folds = True

    def __init__(self, cfg: IALSConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.seed = int(torch.randint(2**62, ()))  # of the initial factors, so that every fit starts alike
        self.register_buffer("users", torch.zeros(0, cfg.dim))  # P [U, d]
        self.register_buffer("items", torch.zeros(0, cfg.dim))  # Q [I, d]

    def _fit(self, train: ItemLists) -> None:
        cfg, device = self.cfg, train.items.device
        user, item = train.pairs()
        by_item = ItemLists.of(item, user, self.num_items, self.num_users)
        generator = torch.Generator().manual_seed(self.seed)
        std = cfg.init_std / cfg.dim**0.5
        p, q = (
            (std * torch.randn(count, cfg.dim, generator=generator)).to(device)
            for count in (self.num_users, self.num_items)
        )
        for _ in range(cfg.epochs):
            half_step(p, q, train, cfg)
            half_step(q, p, by_item, cfg)
        half_step(p, q, train, cfg)
        self.users, self.items = p, q

    def placed(self) -> Placed:
        """The factors, whose inner products are the scores."""
        return Placed(self.users, self.items, "dot")

    def _score(self, users: Tensor) -> Tensor:
        return self.users[users] @ self.items.T

    def _score_lists(self, lists: ItemLists) -> Tensor:
        p = self.items.new_zeros(len(lists), self.cfg.dim)
        half_step(p, self.items, lists, self.cfg.model_copy(update={"block": self.cfg.dim}))
        return p @ self.items.T


def half_step(p: Tensor, q: Tensor, lists: ItemLists, cfg: IALSConfig) -> None:
    """Move p [U, d] in place, block after block of coordinates, to the least loss for q [I, d] as it is.

    lists: the rows of q that each row of p has an interaction with. For those of one u the loss is
    sum_{i in R_u} (<p_u, q_i> - 1)^2 + alpha0 |Q p_u|^2 + lambda (|R_u| + alpha0 I)^nu |p_u|^2.
    """
    counts, gram = lists.counts, cfg.alpha0 * (q.T @ q)
    ridge = cfg.l2 * (counts.to(p.dtype) + cfg.alpha0 * len(q)) ** cfg.nu  # [U]
    order = torch.argsort(counts, stable=True)  # lists of about equal length are padded to the same
    p[counts == 0] = 0  # the least there is, which blocks of coordinates come near to and do not reach
    start = int((counts == 0).sum())
    while start < len(order):
        longest = 2 * max(int(counts[order[start]]), 1)
        users = order[start : start + max(_NUMBERS // (p.shape[1] * max(longest, cfg.block)), 1)]
        users = users[counts[users] <= longest]
        own, there = _padded(q, lists, users)
        p[users] = _solved(p[users], own, there, gram, ridge[users], cfg.block)
        start += len(users)


def _padded(q: Tensor, lists: ItemLists, users: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of q of each user, 0 behind the last: [B, n, d]; and where there are any, as 1: [B, n]."""
    place, item = lists.of_users(users)
    counts = lists.counts[users]
    at = torch.arange(len(place), device=place.device) - (counts.cumsum(0) - counts)[place]
    own = q.new_zeros(len(users), max(int(counts.max()), 1), q.shape[1])
    there = own.new_zeros(own.shape[:2])
    own[place, at], there[place, at] = q[item], 1
    return own, there


def _in_double(slope: Tensor, mine: Tensor, gram: Tensor, ridge: Tensor) -> Tensor:
    """The step [B, b] in double precision; InputError where not even that has a solution."""
    mine = mine.double()
    curvature = mine.mT @ mine + gram.double()
    curvature.diagonal(dim1=1, dim2=2).add_(ridge.double()[:, None])
    factor, failed = torch.linalg.cholesky_ex(curvature)
    if bool(failed.any()):
        raise InputError("model.l2: too small to make the regressions of the factors regular; raise it, or "
                         "model.nu or model.alpha0")
    return torch.cholesky_solve(slope.double()[:, :, None], factor).squeeze(2).to(slope.dtype)


def _solved(p: Tensor, own: Tensor, there: Tensor, gram: Tensor, ridge: Tensor, block: int) -> Tensor:
    """Newton's step, which is exact, for each block of coordinates of p [B, d]."""
    p = p.clone()
    for start in range(0, p.shape[1], block):
        part = slice(start, start + block)
        mine = own[:, :, part]
        error = (own @ p[:, :, None]).squeeze(2) - there
        slope = (error[:, None] @ mine).squeeze(1) + p @ gram[:, part] + ridge[:, None] * p[:, part]
        curvature = mine.mT @ mine + gram[part, part]
        curvature.diagonal(dim1=1, dim2=2).add_(ridge[:, None])
        factor, failed = torch.linalg.cholesky_ex(curvature)
        lost = ridge < _LOST * curvature.diagonal(dim1=1, dim2=2).amax(1)
        step = torch.cholesky_solve(slope[:, :, None], factor).squeeze(2)
        if bool((lost | (failed > 0)).any()):
            step = _in_double(slope, mine, gram[part, part], ridge)
        p[:, part] -= step
    return p
