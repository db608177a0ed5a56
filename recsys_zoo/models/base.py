"""What a model is: settings, a card and a forward. Models know nothing of losses, trainers and devices."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..batch import Inputs
from ..card import Card
from ..config import Frozen
from ..errors import InputError
from ..itemlists import ItemLists
from ..nn.embedding import Embedding, EmbeddingConfig
from ..nn.sparse import Fitted
from ..schema import Schema, Side

# A loss term beside the task's: a scalar, or, for terms that need the labels, which a model never sees, a
# function of the task's loss and of its loss of any logits: term(loss, loss_of) -> scalar.
LossOf = Callable[[Tensor], Tensor]
Term = Tensor | Callable[[Tensor, LossOf], Tensor]


def scalars(terms: dict[str, Term], loss: Tensor, loss_of: LossOf) -> dict[str, Tensor]:
    """The terms of `Model.train_forward` as scalars."""
    return {k: term if isinstance(term, Tensor) else term(loss, loss_of) for k, term in terms.items()}


class ModelConfig(Frozen):
    """Settings of every model that looks up embeddings.

    newer: settings that older rows have not, and that leave the identity of a run alone at their default.
    """

    newer: ClassVar[tuple[str, ...]] = ()
    embedding: EmbeddingConfig = EmbeddingConfig()


class Model(nn.Module):
    """Base of everything in the zoo: built from settings and a schema."""

    card: ClassVar[Card]
    Config: ClassVar[type[Frozen]] = Frozen
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    train_defaults: ClassVar[dict[str, Any]] = {}  # of TrainConfig, where nothing else is said
    preset_training: ClassVar[dict[str, dict[str, Any]]] = {}  # the same of presets, over train_defaults
    seeded: bool = True  # False: nothing is drawn, so that every seed gives the same
    splits: bool = True  # False: the loss of a batch is not the mean of those of its parts
    fixed_shapes: bool = True  # False: sizes in a training step depend on the batch's ids, so no CUDA graph
    bare: ClassVar[bool] = False  # True: tables are all that it learns
    whole_table: ClassVar[bool] = False  # True: reads `Embedding.matrix` in training, so tables need autograd

    def __init__(self, cfg: Frozen, schema: Schema) -> None:
        super().__init__()
        self.cfg, self.schema = cfg, schema

    @classmethod
    def idle(cls, cfg: Any) -> tuple[str, ...]:
        """Declared settings that do nothing in this model, by dotted name: not tuned unless asked for by
        name. The settings are those that tuning starts from."""
        decays = ("train.table_l2",) * (not hasattr(cfg, "embedding")), ("train.net_l2",) * cls.bare
        return tuple(name for names in decays for name in names)

    @property
    def name(self) -> str:
        """The registry name."""
        return type(self).__module__.rpartition(".")[2]

    @property
    def num_users(self) -> int:
        """U: values of the user column; user u is row u + 2 of its vocabulary. InputError without one."""
        return self._values("user")

    @property
    def num_items(self) -> int:
        """I: values of the item column; item i is row i + 2 of its vocabulary. InputError without one."""
        return self._values("item")

    def _values(self, role: Side) -> int:
        count = self.schema.size(role)
        if not count:
            raise InputError(f"{self.name}: the {role} column has no value; prepare data with some")
        return count

    def train_forward(self, x: Inputs) -> tuple[Tensor, dict[str, Term]]:
        """Logits and further loss terms by name, each added to the task's loss."""
        return self(x), {}

    def after_step(self) -> None:
        """What must hold of the weights, put right after every step of the optimiser; here nothing."""

    @torch.no_grad()
    def explain(self, x: Inputs) -> dict[str, Tensor]:
        """Tensors that explain the logits (attention maps ...); empty where the model has none."""
        return {}

    def num_parameters(self) -> int:
        """Learnt numbers; padding rows of tables are not counted."""
        padding = sum(
            t.weight.shape[1] for m in self.modules() if isinstance(m, Embedding) for t in m.tables()
        )
        return sum(p.numel() for p in self.parameters()) - padding


class CTRModel(Model):
    """forward(Inputs) -> logits [B] of a click; the probability is their sigmoid."""

    Config = ModelConfig


class Ranking(Model):
    """Base of what ranks items: for users of training and, where it `folds`, for anybody by their items."""

    folds: ClassVar[bool] = False

    def __init__(self, cfg: Frozen, schema: Schema) -> None:
        super().__init__(cfg, schema)
        _ = self.num_users, self.num_items  # InputError without such columns

    def scoring(self) -> Callable[[Tensor], Tensor]:
        """users [B] -> scores [B, I] by the weights as they are now."""
        raise NotImplementedError

    @torch.no_grad()
    def score_lists(self, lists: ItemLists) -> Tensor:
        """Scores [B, I], float32, of all items for anybody who has these items: one list a row (fold-in).

        They are those of a user of training with the same items. InputError for a model that learns something
        of each user beside the items, and for lists of other items.
        """
        if not self.folds:
            raise InputError(f"{self.name}: ranks for the users of its training alone, and not for others by "
                             "a list of their items")
        if len(lists.items) and not 0 <= int(lists.items.min()) <= int(lists.items.max()) < self.num_items:
            raise InputError(f"{self.name}: the lists name items up to {int(lists.items.max())}, but the "
                             f"schema counts {self.num_items}: number items from 0 to {self.num_items - 1}")
        device = next(itertools.chain(self.parameters(), self.buffers())).device
        return self._score_lists(lists.to(device))

    def _score_lists(self, lists: ItemLists) -> Tensor:
        raise NotImplementedError


class RankingModel(Ranking):
    """Base of what ranks items and learns by gradients: `losses` of batches, then `scoring`."""

    # rankings creep up: a rate cut after one epoch without a gain, the rule of click models, would end that
    train_defaults: ClassVar[dict[str, Any]] = {
        "monitor": "recall@20",
        "batch_size": 2048,
        "patience": 10,
        "plateau_factor": 1.0,
        "epochs": 1000,
    }
    learns_lists: ClassVar[bool] = False  # True: of batches of users with all their items; else of pairs

    def prepare(self, train: ItemLists) -> None:
        """Take from the training lists what the model needs beside its weights."""
        raise NotImplementedError

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Terms of the loss of a batch by name; their sum is descended."""
        raise NotImplementedError


class Scorer(Fitted, Ranking):
    """Base of what ranks items without gradients: `fit` on lists of items once, then `score` users.

    All state is buffers, on the device of the lists; the state dict of a fitted scorer loads into a new one
    of the same settings and schema. A scorer fills in `_fit`, `_score` and, where it folds, `_score_lists`.
    """

    train_defaults: ClassVar[dict[str, Any]] = {"monitor": "recall@20"}  # decides between settings
    seeded = False
    size: Tensor  # [2]: users and items of the fit, -1 before

    def __init__(self, cfg: Frozen, schema: Schema) -> None:
        super().__init__(cfg, schema)
        self.register_buffer("size", torch.tensor([-1, -1]))

    @torch.no_grad()
    def fit(self, train: ItemLists) -> None:
        """Learn from the items of each user; what an earlier fit has learnt is forgotten.

        Users are 0..U-1 and items 0..I-1, numbered as in `num_users` and `num_items`. InputError for lists of
        another size.
        """
        users, items = self.num_users, self.num_items
        if len(train) != users:
            raise InputError(f"{self.name}: lists of {len(train)} users, but the schema counts {users}")
        if len(train.items) and not 0 <= int(train.items.min()) <= int(train.items.max()) < items:
            raise InputError(
                f"{self.name}: an item {int(train.items.max())} in the lists, but the schema counts {items}: "
                f"number items from 0 to {items - 1}"
            )
        self.to(train.items.device)
        self.size = train.items.new_tensor([-1, -1])  # a fit that fails leaves nothing to score with
        self._fit(train)
        self.size = train.items.new_tensor([users, items])

    @torch.no_grad()
    def score(self, users: Tensor) -> Tensor:
        """Scores [B, I], float32, of all items for users [B] (0..U-1); the caller may change them.

        But for rounding, a user's scores do not depend on who else is in the batch. InputError before `fit`,
        and for numbers of no user.
        """
        self._check_fitted()
        if len(users) and not 0 <= int(users.min()) <= int(users.max()) < self.num_users:
            found = f"{int(users.min())} to {int(users.max())}"
            raise InputError(f"{self.name}: user numbers {found} are not all among 0 to {self.num_users - 1}")
        return self._score(users)

    def score_lists(self, lists: ItemLists) -> Tensor:
        """As every ranking model; InputError before `fit`."""
        self._check_fitted()
        return super().score_lists(lists)

    def num_parameters(self) -> int:
        """Numbers that the fit has found and scoring needs: the floating-point ones of the state."""
        return sum(b.numel() for b in self.buffers() if b.is_floating_point())

    def scoring(self) -> Callable[[Tensor], Tensor]:
        """`score`, under the name by which every ranking model gives its scores."""
        return self.score

    def _check_fitted(self) -> None:
        if self.size.tolist() != [self.num_users, self.num_items]:
            raise InputError(f"{self.name} is not fitted: call fit or load a fitted state before score")

    def _fit(self, train: ItemLists) -> None:
        raise NotImplementedError

    def _score(self, users: Tensor) -> Tensor:
        raise NotImplementedError

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        size, errors = state.get(f"{prefix}size"), rest[-1]
        if size is not None and size.tolist() not in ([-1, -1], [self.num_users, self.num_items]):
            errors.append(
                f"fitted on {size.tolist()} users and items; this schema counts {self.num_users} and "
                f"{self.num_items}"
            )
        super()._load_from_state_dict(state, prefix, *rest)
