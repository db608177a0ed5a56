"""DNN: multi-layer perceptron on the concatenated embeddings (after Covington et al., RecSys 2016)."""

from __future__ import annotations

from torch import Tensor

from ...batch import Inputs
from ...card import Card, Published
from ...nn.embedding import Embedding
from ...nn.mlp import MLP, MLPSettings
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class DNN(CTRModel):
    """logit = MLP([e_1; ...; e_F])."""

    card = Card(
        name="DNN",
        family="ctr",
        title="Deep Neural Networks for YouTube Recommendations",
        authors="Covington, Adams, Sargin",
        year=2016,
        url="https://doi.org/10.1145/2959100.2959190",
        equations="h_0 = [e_1; ...; e_F]; h_l = dropout(ReLU(BN(W_l h_{l-1} + b_l))); logit = w^T h_L + b",
        notes=(
            "The board's YoutubeDNN row is this plain network, without the paper's features and candidates.",
            "The board's log says 781,892 parameters: 417,891 as here and the MLP's 364,001 once more (the "
            "log of the MovieLens run counts it twice as well).",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.983323, "logloss": 0.162229},
                source="BARS ranking/ctr/DNN/DNN_frappe_x1 (log)",
            ),
        ),
        faithful="reconstruction",
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of DNN."""

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.embedding = Embedding(schema, cfg.embedding)
        self.mlp = MLP(self.embedding.flat_dim, cfg.hidden, 1, cfg.batch_norm, cfg.dropout)

    def forward(self, x: Inputs) -> Tensor:
        return self.mlp(self.embedding.flat(x)).squeeze(-1)  # [B]
