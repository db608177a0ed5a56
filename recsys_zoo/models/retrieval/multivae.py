"""MultiVAE: a variational autoencoder of a user's items, multinomial likelihood (Liang et al., WWW 2018)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ...batch import UserLists
from ...card import Card, Published
from ...config import Frozen, Search
from ...itemlists import ItemLists
from ...nn.lists import sums_of_lists
from ...nn.mlp import Rate, Width, linear
from ...nn.sparse import SparseMatrix, scipy_csr
from ...registry import register
from ...schema import Schema
from ..base import RankingModel


class MultiVAEConfig(Frozen):
    """Settings of MultiVAE; the defaults are the paper's."""

    hidden: Annotated[tuple[Width, ...], Search(choices=([600], [200], [400], [600, 400]))] = Field(
        (600,), min_length=1, description="widths of the encoder's hidden layers; the decoder mirrors them"
    )
    latent: Annotated[int, Search(choices=(64, 100, 200, 400))] = Field(
        200, ge=1, description="width K of the code z"
    )
    dropout: Rate = Field(0.5, description="share of a user's items that are hidden from the encoder")
    variational: bool = Field(
        True, description="z is drawn, and the divergence joins the loss; off: Mult-DAE, the case without"
    )
    beta: Annotated[float, Search(low=0.0, high=1.0, when="variational")] = Field(
        0.2, ge=0, description="weight that the divergence is annealed to"
    )
    anneal_steps: int = Field(
        200_000, ge=0, description="the weight grows by 1 / anneal_steps a step up to beta; 0: beta at once"
    )


@register
class MultiVAE(RankingModel):
    """s_u = f(mu(x_u)), the logits of a multinomial distribution over items.

    Memory: 4 bytes for each of 2 I H weights (H the outer hidden width), four times that in training, 12
    bytes an interaction, and about 16 B I bytes a batch of B users in training, 4 B I in scoring;
    train.micro_batch divides the former. The input is never made dense.
    """

    card = Card(
        name="MultiVAE",
        family="retrieval",
        title="Variational Autoencoders for Collaborative Filtering",
        authors="Liang, Krishnan, Hoffman, Jebara",
        year=2018,
        url="https://arxiv.org/abs/1802.05814",
        equations="x -> dropout(x / |x|) -> tanh layers -> mu, ln sigma^2; z = mu + sigma e, e ~ N(0, 1); "
        "L = mean over users of -sum_i x_ui ln softmax_i f(z) + beta KL(N(mu, sigma^2) || N(0, 1))",
        notes=(
            "The weight of the divergence is min(beta, step / anneal_steps), as in the authors' code; beta "
            "= 0.2 is then reached after a fifth of the 200,000 steps, which small data never are.",
            "Preset dae is Mult-DAE with the same layers; the paper's has one layer of 200 and an L2 term "
            "(train.net_l2).",
            "Weights start from Xavier's normal distribution, biases at 0 (authors: N(0, 0.001^2)).",
            "Batches are of 500 users; clipping at train.clip_norm is this zoo's.",
        ),
        published=(
            Published(
                board="gowalla_m1",
                metrics={"recall@20": 0.1641, "ndcg@20": 0.1335},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/gowalla_m1.csv (MultVAE)",
            ),
            Published(
                board="yelp18_m1",
                metrics={"recall@20": 0.0584, "ndcg@20": 0.0450},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/yelp18_m1.csv (MultVAE)",
            ),
            Published(
                board="amazonbooks_m1",
                metrics={"recall@20": 0.0407, "ndcg@20": 0.0315},
                source="reczoo/BARS@5b5e61f docs/Matching/leaderboard/amazonbooks_m1.csv (MultVAE)",
            ),
        ),
    )
    Config = MultiVAEConfig
    presets: ClassVar[dict[str, dict[str, Any]]] = {"dae": {"variational": False}}
    train_defaults: ClassVar[dict[str, Any]] = {
        **RankingModel.train_defaults, "batch_size": 500, "epochs": 200}
    learns_lists = True
    fixed_shapes = False  # what the lists of a batch hold
    folds = True
    steps: Tensor

    def __init__(self, cfg: MultiVAEConfig, schema: Schema) -> None:
        super().__init__(cfg, schema)
        widths = [*cfg.hidden, cfg.latent]
        self.first = nn.Parameter(torch.empty(self.num_items, widths[0]))  # a row an item
        self.first_bias = nn.Parameter(torch.zeros(widths[0]))
        nn.init.xavier_normal_(self.first)
        outputs = [*cfg.hidden[1:], cfg.latent * (1 + cfg.variational)]
        self.encoder = nn.ModuleList(map(linear, cfg.hidden, outputs))
        back = widths[::-1]
        self.decoder = nn.ModuleList(map(linear, back, [*back[1:], self.num_items]))
        self.register_buffer("steps", torch.zeros(()))  # of the optimiser
        self.history = SparseMatrix(self.num_items)  # R [U, I]

    def prepare(self, train: ItemLists) -> None:
        """The items by which `scoring` ranks for the users of training."""
        self.history.assign(scipy_csr(train, self.num_items))

    def code(self, item: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """mu and ln sigma^2, [B, K] each (the latter empty without sampling), of lists of items one behind
        the other: item [n], counts [B]."""
        weight = counts.to(self.first.dtype).clamp(min=1).rsqrt().repeat_interleave(counts)
        weight = F.dropout(weight, self.cfg.dropout, self.training)
        h = sums_of_lists(self.first, item, counts, weight) + self.first_bias
        for layer in self.encoder:
            h = layer(h.tanh())
        return h[:, : self.cfg.latent], h[:, self.cfg.latent :]

    def decode(self, z: Tensor) -> Tensor:
        """Logits [B, I] of codes [B, K]."""
        for layer in self.decoder[:-1]:
            z = layer(z).tanh()
        return self.decoder[-1](z)

    def losses(self, batch: UserLists) -> dict[str, Tensor]:
        """The multinomial loss of the lists, and the weighted divergence."""
        place, at = (batch.items >= 0).nonzero(as_tuple=True)
        item, counts = batch.items[place, at], (batch.items >= 0).sum(1)
        mu, log_variance = self.code(item, counts)
        mu, log_variance = mu.float(), log_variance.float()
        z = mu
        if self.cfg.variational and self.training:
            z = mu + torch.randn_like(mu) * (log_variance / 2).exp()
        logits = self.decode(z).float()
        total = (counts * logits.logsumexp(1)).sum() - logits[place, item].sum()
        terms = {"multinomial": total / len(batch)}
        if self.cfg.variational:
            divergence = (mu.square() + log_variance.exp() - 1 - log_variance).sum() / (2 * len(batch))
            terms["divergence"] = self.divergence_weight() * divergence
        return terms

    def divergence_weight(self) -> Tensor:
        """Of the step that comes: 0-d."""
        grown = self.steps / self.cfg.anneal_steps if self.cfg.anneal_steps else self.steps + self.cfg.beta
        return grown.clamp(max=self.cfg.beta)

    def after_step(self) -> None:
        """The step is counted."""
        self.steps += 1

    def _score_lists(self, lists: ItemLists) -> Tensor:
        """By the mean of the code."""
        return self.decode(self.code(lists.items, lists.counts)[0])

    def scoring(self) -> Callable[[Tensor], Tensor]:
        """users [B] -> scores [B, I] by the weights as they are now."""
        return lambda users: self.score_lists(self.history.lists(users.to(self.first.device)))
