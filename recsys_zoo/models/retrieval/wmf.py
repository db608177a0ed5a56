"""WMF: clicks against unlabelled pairs of less weight, by gradient steps (Hu et al., ICDM 2008)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from ...batch import DrawnFrom, Pairs
from ...card import Card
from ...config import Search
from ...losses.propensity import Error, inverse_propensity_loss
from ...nn.embedding import EmbeddingConfig
from ...registry import register
from ..base import ModelConfig
from ..vectors import VectorModel


class WMFConfig(ModelConfig):
    """Settings of WMF."""

    embedding: EmbeddingConfig = EmbeddingConfig(dim=30, init_std=0.1)
    negatives: int = Field(1, ge=1, description="unlabelled pairs a click in a batch; authors: 1")
    unlabelled_weight: Annotated[float, Search(low=0.01, high=1.0, log=True)] = Field(
        1.0, ge=0, description="w, weight of the unlabelled pairs; authors, for WMF on Yahoo! R3: 0.977"
    )
    error: Error = Field("squared", description="of the probability: squared, or log (cross-entropy)")


@register
class WMF(VectorModel):
    """s_ui = <p_u, q_i>, the probability of a click its sigmoid."""

    card = Card(
        name="WMF",
        family="retrieval",
        title="Collaborative Filtering for Implicit Feedback Datasets",
        authors="Hu, Koren, Volinsky",
        year=2008,
        url="https://doi.org/10.1109/ICDM.2008.22",
        equations="L = sum of Y (1 - p)^2 + w (1 - Y) p^2, p = sigmoid(<p_u, q_i>), over clicks and as many "
        "unlabelled pairs, divided by sum of Y + w (1 - Y); L2 over both tables",
        notes=(
            "As the baseline in the code of Rel-MF (Saito et al., WSDM 2020), which lowers the weight of "
            "unlabelled pairs where the paper raises that of clicks; iALS solves the paper's loss.",
            "A batch is made of clicks, drawn with replacement, and as many pairs drawn from all users' that "
            "are none, so clicks count far more than in a sum over all pairs.",
            "train.table_l2 is the L2 term over both whole tables in every step, as in the code, at a cost "
            "that grows with the tables; table_update=\"rows\" decays the rows of the batch alone.",
            "Vectors are drawn from N(0, 0.1^2); the code has Glorot's uniform ones, whose width depends on "
            "the number of users.",
            "Preset yahoo: as those authors tuned and trained it for Yahoo! R3, for 301 batches there.",
            "No published number is of a board of this zoo.",
        ),
        faithful="code",
    )
    Config = WMFConfig
    bare = True
    # Rel-MF's authors on Yahoo! R3: batches of 2^15, half of them clicks
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "yahoo": {"embedding": {"dim": 30}, "unlabelled_weight": 0.97725}}
    preset_training: ClassVar[dict[str, dict[str, Any]]] = {"yahoo": {"batch_size": 1 << 14}}
    negatives_from: ClassVar[DrawnFrom] = "users"
    train_defaults: ClassVar[dict[str, Any]] = {
        **VectorModel.train_defaults, "monitor": "snips_dcg@5", "lr": 5e-3, "table_l2": 1e-4}

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """The loss of a batch."""
        items = torch.cat([pairs.pos[:, None], pairs.neg], 1)
        users = torch.cat([pairs.user[:, None], pairs.neg_users()], 1)
        scores = (self.user_rows(users) * self.item_rows(items)).sum(2)
        label, theta = torch.zeros_like(scores), torch.ones_like(scores)
        label[:, 0], theta[:, 0] = 1, self.propensity(pairs.user, pairs.pos)
        weight = self.cfg.unlabelled_weight
        total = self.pointwise(scores, label, theta).sum()
        return {"pointwise": total / (len(pairs) * (1 + weight * pairs.neg.shape[1]))}

    def propensity(self, users: Tensor, items: Tensor) -> Tensor:
        """Chances of exposure of pairs [B]: 1."""
        return torch.ones(len(users), device=users.device)

    def pointwise(self, scores: Tensor, label: Tensor, theta: Tensor) -> Tensor:
        """The loss of each pair."""
        cfg = self.cfg
        return inverse_propensity_loss(scores, label, theta, 0.0, cfg.unlabelled_weight, cfg.error)
