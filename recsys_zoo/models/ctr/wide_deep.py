"""Wide & Deep: logistic regression and a perceptron trained together (Cheng et al., DLRS 2016)."""

from __future__ import annotations

from torch import Tensor

from ...batch import Inputs
from ...card import Card, Published
from ...nn.embedding import Embedding, FirstOrder
from ...nn.mlp import MLP, MLPSettings
from ...registry import register
from ...schema import Schema
from ..base import CTRModel, ModelConfig


@register
class WideDeep(CTRModel):
    """logit = sum_i w_{x_i} + MLP([e_1; ...; e_F]); the network's output bias is the only one."""

    card = Card(
        name="Wide&Deep",
        family="ctr",
        title="Wide & Deep Learning for Recommender Systems",
        authors="Cheng, Koc, Harmsen, Shaked, Chandra, Aradhye, Anderson, Corrado, Chai, Ispir, Anil, Haque, "
        "Hong, Jain, Liu, Shah",
        year=2016,
        url="https://arxiv.org/abs/1606.07792",
        equations="logit = sum_i w_{x_i} + MLP([e_1; ...; e_F])",
        notes=(
            "The wide part sees the columns of the data; the paper's crossed columns must be prepared there.",
            "One optimiser for both parts; the paper trains the wide part by FTRL, the deep part by AdaGrad.",
        ),
        published=(
            Published(
                board="frappe_x1",
                metrics={"auc": 0.9841, "logloss": 0.1490},
                source="BARS ranking/ctr/WideDeep/WideDeep_frappe_x1 (board, 4 digits)",
            ),
        ),
    )

    class Config(ModelConfig, MLPSettings):
        """Settings of Wide & Deep."""

    def __init__(self, cfg: Config, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.linear = FirstOrder(schema, cfg.embedding, bias=False)
        self.embedding = Embedding(schema, cfg.embedding)
        self.mlp = MLP(self.embedding.flat_dim, cfg.hidden, 1, cfg.batch_norm, cfg.dropout)

    def forward(self, x: Inputs) -> Tensor:
        return self.linear(x) + self.mlp(self.embedding.flat(x)).squeeze(-1)  # [B]
