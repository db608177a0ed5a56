"""ExpoMF: which pairs were looked at is hidden, and found by EM beside the factors (Liang et al., 2016)."""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ...card import Card
from ...config import Frozen, Search
from ...itemlists import ItemLists
from ...registry import register
from ...schema import Schema
from ..base import Scorer
from ..vectors import Placed

_NUMBERS = 1 << 22  # of the weighted factors at once: 16 MiB
_TINY = 1e-8  # added to the density, as in the code


class ExpoMFConfig(Frozen):
    """Settings of ExpoMF; the defaults are those of its code, but for the width and l2."""

    dim: Annotated[int, Search(choices=(10, 30, 50, 100, 200))] = Field(
        200, ge=1, description="width of the factors; Saito et al.: 200 for Yahoo! R3"
    )
    l2: Annotated[float, Search(low=1e-5, high=10.0, log=True)] = Field(
        0.1, gt=0, description="lambda of users and items; authors: 1e-5, which overfits small data"
    )
    precision: Annotated[float, Search(low=0.1, high=10.0, log=True)] = Field(
        1.0, gt=0, description="lambda_y, inverse variance of a click around the score"
    )
    exposure: Annotated[float, Search(low=0.001, high=0.5, log=True)] = Field(
        0.01, gt=0, lt=1, description="initial mu of all items, the chance to be looked at"
    )
    prior: tuple[float, float] = Field((1.0, 1.0), description="alpha_1, alpha_2: mu is Beta distributed")
    epochs: Annotated[int, Search(low=5, high=30)] = Field(10, ge=1, description="rounds of EM")
    init_std: float = Field(0.01, gt=0, description="initial factors are N(0, init_std^2)")
    density: Literal["normal", "authors"] = Field("normal", description=(
        "factor of the density: sqrt(lambda_y / (2 pi)), or as the code has it, sqrt(lambda_y / 2 pi)"))


@register
class ExpoMF(Scorer):
    """s_ui = <theta_u, beta_i>.

    A round costs U I d^2 products; memory: 4 d bytes a user and an item, and 16 MiB beside.
    """

    card = Card(
        name="ExpoMF",
        family="retrieval",
        title="Modeling User Exposure in Recommendation",
        authors="Liang, Charlin, McInerney, Blei",
        year=2016,
        url="https://arxiv.org/abs/1510.07025",
        equations="a_ui = 1 where y_ui = 1, else N mu_i / (N mu_i + 1 - mu_i), N = N(0 | s_ui, 1/lambda_y); "
        "theta_u = (sum_i a_ui beta_i beta_i' + l2 / lambda_y I)^-1 sum_i a_ui y_ui beta_i, beta_i alike; "
        "mu_i = (alpha_1 + sum_u a_ui - 1) / (alpha_1 + alpha_2 + U - 2)",
        notes=(
            "The authors' code, which Rel-MF's study uses too, has sqrt(lambda_y / 2 * pi) as the factor of "
            "the density, pi times the right one: density=\"authors\".",
            "Exposure is computed anew with the factors of the moment before users, before items and before "
            "mu are updated, as in the code.",
            "Rel-MF's study has the authors' l2 of 1e-5 too: it passes another one by a name that the class "
            "does not read.",
            "No published number is of a board of this zoo.",
        ),
    )
    Config = ExpoMFConfig
    seeded = True
    train_defaults: ClassVar[dict[str, Any]] = {"monitor": "snips_dcg@5"}

    def __init__(self, cfg: ExpoMFConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.seed = int(torch.randint(2**62, ()))  # of the initial factors, so that every fit starts alike
        self.register_buffer("users", torch.zeros(0, cfg.dim))  # theta [U, d]
        self.register_buffer("items", torch.zeros(0, cfg.dim))  # beta [I, d]

    def _fit(self, train: ItemLists) -> None:
        cfg, device = self.cfg, train.items.device
        user, item = train.pairs()
        by_item = ItemLists.of(item, user, self.num_items, self.num_users)
        generator = torch.Generator().manual_seed(self.seed)
        theta, beta = ((cfg.init_std * torch.randn(count, cfg.dim, generator=generator)).to(device)
                       for count in (self.num_users, self.num_items))
        mu = torch.full((self.num_items,), cfg.exposure, device=device)
        alpha, beta_prior = cfg.prior
        for _ in range(cfg.epochs):
            theta = regressed(theta, beta, train, mu[None], cfg)
            beta = regressed(beta, theta, by_item, mu[:, None], cfg)
            looked = sum(exposures(theta[rows], beta, train.rows(rows), mu[None], cfg).sum(0)
                         for rows in _blocks(theta, len(beta)))
            mu = (alpha + looked - 1) / (alpha + beta_prior + len(theta) - 2)
        self.users, self.items = theta, beta

    def placed(self) -> Placed:
        """The factors, whose inner products are the scores."""
        return Placed(self.users, self.items, "dot")

    def _score(self, users: Tensor) -> Tensor:
        return self.users[users] @ self.items.T


def exposures(p: Tensor, q: Tensor, lists: ItemLists, mu: Tensor, cfg: ExpoMFConfig) -> Tensor:
    """a [B, N]: the chance that a pair of rows of p [B, d] and q [N, d] was looked at; 1 in the lists.

    mu broadcasts to [B, N].
    """
    ratio = cfg.precision / (2 * math.pi) if cfg.density == "normal" else cfg.precision / 2 * math.pi
    seen = math.sqrt(ratio) * (-cfg.precision / 2 * (p @ q.T).square()).exp() + _TINY
    a = seen * mu / (seen * mu + 1 - mu)
    a[lists.pairs()] = 1
    return a


def regressed(p: Tensor, q: Tensor, lists: ItemLists, mu: Tensor, cfg: ExpoMFConfig) -> Tensor:
    """New rows of p [U, d]: ridge regressions of the clicks in the lists on q [N, d], weighted by exposure.

    mu [1, N] or [U, 1]. Solved in double precision: with fewer rows of q than d, the ridge alone makes the
    systems regular, and in single precision it is lost beside their numbers.
    """
    solved = torch.empty_like(p)
    double = q.double()
    for rows in _blocks(p, q.numel()):
        own = lists.rows(rows)
        a = exposures(p[rows], q, own, mu if len(mu) == 1 else mu[rows], cfg)
        gram = (a[:, :, None] * double).mT @ double  # [B, d, d]
        gram.diagonal(dim1=1, dim2=2).add_(cfg.l2 / cfg.precision)
        place, item = own.pairs()
        clicks = double.new_zeros(len(rows), q.shape[1]).index_add_(0, place, double[item])
        solved[rows] = torch.linalg.solve(gram, clicks).to(p.dtype)
    return solved


def _blocks(p: Tensor, numbers: int) -> tuple[Tensor, ...]:
    """Row numbers of p, in parts that take so many numbers a row."""
    return torch.arange(len(p), device=p.device).split(max(1, _NUMBERS // max(numbers, 1)))
