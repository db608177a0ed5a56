"""Rel-MF: clicks weighted by their inverse propensities, unbiased for relevance (Saito et al., WSDM 2020)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ...card import Card
from ...config import Search
from ...errors import InputError
from ...itemlists import ItemLists
from ...losses.propensity import check_propensities, inverse_propensity_loss, popularity_propensities
from ...nn.embedding import EmbeddingConfig
from ...registry import register
from ...schema import Schema
from .wmf import WMF, WMFConfig


class RelMFConfig(WMFConfig):
    """Settings of Rel-MF."""

    newer: ClassVar[tuple[str, ...]] = (*WMFConfig.newer, "propensity")
    embedding: EmbeddingConfig = EmbeddingConfig(dim=200, init_std=0.1)
    unlabelled_weight: float = Field(1.0, ge=0, description="w, weight of (1 - Y / theta) p^2; authors: 1")
    clip: Annotated[float, Search(low=1e-3, high=1.0, log=True)] = Field(
        0.00914, ge=0, le=1, description="M: propensities are not below it; 0: unbiased, 1: clicks as labels"
    )
    power: Annotated[float, Search(choices=(0.25, 0.5, 1.0))] = Field(
        0.5, ge=0, description="eta: propensity (n_i / max n)^eta; 0: all 1"
    )
    propensity: str = Field(
        "", description="numeric column of items that holds theirs, in (0, 1]; none: by power"
    )
    non_negative: bool = Field(
        False, description="cut 1 - Y / theta at 0: bounded below, but not unbiased; not of the paper"
    )


@register
class RelMF(WMF):
    """s_ui = <p_u, q_i>, the probability of relevance its sigmoid."""

    card = Card(
        name="Rel-MF",
        family="retrieval",
        title="Unbiased Recommender Learning from Missing-Not-At-Random Implicit Feedback",
        authors="Saito, Yaginuma, Nishino, Sakata, Nakata",
        year=2020,
        url="https://arxiv.org/abs/1909.03601",
        equations="L = sum of Y/theta (1 - p)^2 + w (1 - Y/theta) p^2, p = sigmoid(<p_u, q_i>), "
        "theta_i = max((n_i / max n)^eta, M), over clicks and as many unlabelled pairs; L2 over both tables",
        notes=(
            "Preset naive: M = 1, MF with clicks as labels; rmf: M = 0, the unbiased estimator. Defaults: "
            "the clipped one as it was tuned for Yahoo! R3; yahoo: trained as there too, in batches of 2^14 "
            "clicks and as many unlabelled pairs, 301 of them.",
            "The term of a click with theta < 1 is negative for large p: down to 1 - 1/theta by the squared "
            "error, without a bound by error=log, whose scores then grow for ever; clip, or non_negative.",
            "Own propensities: propensity names a column of items; those of pairs from Python "
            "(use_propensities). SNIPS metrics of valid are by popularity for all models alike.",
            "Where a click is drawn a times as often, against an unlabelled pair, as both stand among all "
            "pairs, the minimum is at p = a gamma / (1 + (a - 1) theta gamma), the relevance gamma only for "
            "a = 1: a batch of as many of both favours rarely shown items. negatives = unlabelled pairs a "
            "click in the data is a = 1.",
            "n_i counts all items, also those without a click in training (as one); the code counts those "
            "that have some, and shifts all behind a missing one.",
            "Batches, L2 and initial vectors as in WMF.",
            "No published number is of a board of this zoo.",
        ),
        faithful="code",
    )
    Config = RelMFConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {"rmf": {"clip": 0.0}, "naive": {"clip": 1.0}, "yahoo": {}}

    def __init__(self, cfg: RelMFConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.register_buffer("theta", torch.ones(self.num_items), persistent=False)
        self.given = False  # whether theta is the user's own

    @classmethod
    def idle(cls, cfg: RelMFConfig) -> tuple[str, ...]:
        return (*super().idle(cfg), *["model.power"] * bool(cfg.propensity))

    def prepare(self, train: ItemLists) -> None:
        """The propensities of the items, unless the user's own were given."""
        super().prepare(train)
        if self.given:
            return
        counts = torch.bincount(train.items, minlength=self.num_items)
        self.theta = popularity_propensities(counts, self.cfg.power).to(self.theta)

    def use_propensities(self, theta: Tensor) -> None:
        """Take the user's own ones, of items [I] or of pairs [U, I], in place of those of `prepare`, before
        it or after.

        InputError for another shape and for numbers outside (0, 1].
        """
        if theta.shape not in ((self.num_items,), (self.num_users, self.num_items)):
            raise InputError(f"{self.name}: propensities of the shape {[*theta.shape]}; give one for each of "
                             f"{self.num_items} items, or for each pair with {self.num_users} users")
        check_propensities(theta)
        self.theta, self.given = theta.to(self.theta), True

    def propensity(self, users: Tensor, items: Tensor) -> Tensor:
        """Chances of exposure of pairs [B]."""
        return self.theta[items] if self.theta.dim() == 1 else self.theta[users, items]

    def pointwise(self, scores: Tensor, label: Tensor, theta: Tensor) -> Tensor:
        """The loss of each pair."""
        cfg = self.cfg
        return inverse_propensity_loss(scores, label, theta, cfg.clip, cfg.unlabelled_weight, cfg.error,
                                       cfg.non_negative)
