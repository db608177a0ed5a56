"""XSimGCL: SimGCL in one pass, one of its layers contrasted with their mean (Yu et al., TKDE 2024)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator
from torch import Tensor

from ...batch import Pairs
from ...card import Card
from ...config import Search
from ...registry import register
from .simgcl import SimGCL, SimGCLConfig


class XSimGCLConfig(SimGCLConfig):
    """Settings of XSimGCL."""

    noise: Annotated[float, Search(low=0.01, high=0.5, log=True)] = Field(
        0.2, ge=0, description="epsilon, length of the random vector added to each layer in training"
    )
    contrast_layer: int = Field(1, ge=1, description="l*, the layer contrasted with the mean; at most layers")

    @model_validator(mode="after")
    def _layer_exists(self) -> XSimGCLConfig:
        if self.contrast_layer > self.layers:
            raise ValueError(f"contrast_layer={self.contrast_layer} is none of the {self.layers} layers; "
                             "choose a smaller one")
        return self


@register
class XSimGCL(SimGCL):
    """E = mean of A^k E_0 over k = 1..K; scores <e_u, e_i>."""

    card = Card(
        name="XSimGCL",
        family="retrieval",
        title="XSimGCL: Towards Extremely Simple Graph Contrastive Learning for Recommendation",
        authors="Yu, Xia, Chen, Cui, Hung, Yin",
        year=2023,
        url="https://arxiv.org/abs/2209.02544",
        equations="E' as SimGCL's, from one disturbed pass; L = BPR of E' + contrast (InfoNCE of users' E' "
        "and their layer l* of that pass + that of items) + l2",
        notes=(
            "In training the ranking loss sees the disturbed vectors too; later nothing is disturbed.",
            "The contrast is taken over the different users and the different positive items of a batch.",
            "The L2 term and what is said of the weight of the contrast are SimGCL's.",
        ),
    )
    Config = XSimGCLConfig

    def losses(self, pairs: Pairs) -> dict[str, Tensor]:
        """Terms of LightGCN by the disturbed vectors, and the contrast, of one pass."""
        pairs = self.chosen(pairs)
        layers = self.graph_layers(self.cfg.noise)
        users, items = mean = self.split(sum(layers[1:]) / self.cfg.layers)
        terms = self.terms(pairs, (users[pairs.user], items[pairs.pos], items[pairs.neg]))
        if self.cfg.contrast:
            terms["contrast"] = self.contrast(pairs, mean, self.split(layers[self.cfg.contrast_layer]))
        return terms
