"""iALS with factors of new items from their columns, by ridge regression (Gantner et al., ICDM 2010)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from ...card import Card
from ...config import Search
from ...itemlists import ItemLists
from ...nn.content import ContentConfig, ItemContent
from ...registry import register
from ...schema import Schema
from .ials import IALS, IALSConfig, half_step


class ContentRidgeConfig(ContentConfig, IALSConfig):
    """Settings of the factors and of the regression."""

    dim: Annotated[int, Search(choices=(16, 32, 64, 128))] = Field(
        64, ge=1, description="width d of the factors"
    )
    ridge: Annotated[float, Search(low=0.01, high=1000.0, log=True)] = Field(
        1.0, gt=0, description="weight of the squared coefficients in the regression"
    )


@register
class ContentRidge(IALS):
    """s_ui = <p_u, q_i>, the factors of iALS; q_i = m + (x_i - mean x) W where the item has no training row.

    Memory: that of iALS and 4 T bytes an item; the regression adds 8 (T + d) bytes an item.
    """

    card = Card(
        name="Content ridge",
        family="retrieval",
        title="Learning Attribute-to-Feature Mappings for Cold-Start Recommendations",
        authors="Gantner, Drumond, Freudenthaler, Rendle, Schmidt-Thieme",
        year=2010,
        url="https://doi.org/10.1109/ICDM.2010.129",
        equations="W = argmin sum_i |q_i - mean q - (x_i - mean x) W|^2 + ridge |W|^2 over items with a "
        "training row; q_i = mean q + (x_i - mean x) W for the others",
        notes=(
            "The paper maps attributes to the factors of BPR-MF, by nearest neighbours and by linear maps; "
            "here it is a ridge regression, in closed form, on the factors of iALS.",
            "Its numbers are of other splits than the boards of this zoo and not printed here.",
        ),
        faithful="reconstruction",
    )
    Config = ContentRidgeConfig

    def __init__(self, cfg: ContentRidgeConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.content = ItemContent(cfg.content, cfg.content_dim, self.num_items)

    def _fit(self, train: ItemLists) -> None:
        super()._fit(train)
        self.content.fit(train)
        known = self.content.known
        if bool(known.any()):
            x, items = self.content.vectors, self.items.clone()
            items[~known] = regress(x[known], items[known], x[~known], self.cfg.ridge)
            self.items = items

    def _score_lists(self, lists: ItemLists) -> Tensor:
        """As users of the fit are: by the factors of its items, those of others 0."""
        p, learnt = self.items.new_zeros(len(lists), self.cfg.dim), self.items * self.content.known[:, None]
        half_step(p, learnt, lists, self.cfg.model_copy(update={"block": self.cfg.dim}))
        return p @ self.items.T


def regress(x: Tensor, q: Tensor, new: Tensor, ridge: float) -> Tensor:
    """Ridge regression with a free constant of q [n, d] on x [n, T], at the rows new [m, T]: [m, d]."""
    middle, mean = x.double().mean(0), q.double().mean(0)
    centred = x.double() - middle
    gram = centred.t() @ centred
    gram.diagonal().add_(ridge)
    weight = torch.linalg.solve(gram, centred.t() @ (q.double() - mean))
    return (mean + (new.double() - middle) @ weight).to(q.dtype)
