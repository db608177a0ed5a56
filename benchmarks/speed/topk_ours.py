"""One contender of topk.py: this package, driven over standard input and output."""

from __future__ import annotations

from typing import Any

import torch
from interactions import generate
from worker import serve

from recsys_zoo import create
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.metrics.ranking import hits, ndcg, recall
from recsys_zoo.schema import FIRST, Column, Schema
from recsys_zoo.tasks.ranking import RankingTask
from recsys_zoo.train import backend
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.trainer import Trainer

K = 20


class Ours:
    """Trains and ranks by the Trainer and the task, as `recsys-zoo train` does."""

    def __init__(self, way: str, batch: int, layers: int) -> None:
        data = generate()
        (users, dim), items = data.users.shape, len(data.items)
        sizes = {"user": users, "item": items}
        columns = [Column(name=n, kind="categorical", vocab_size=s + FIRST) for n, s in sizes.items()]
        schema = Schema(dataset="speed", labels=("click",), columns=columns, user="user", item="item")
        splits = {}
        for name, pairs in (("train", data.train), ("valid", data.test)):
            labels = torch.ones(pairs.shape[1], 1).numpy()
            splits[name] = Split(schema, pairs.T + FIRST, None, labels)
        self.data = Prepared.in_memory(schema, splits, digest="speed")
        rule = {"table_update": "rows", "optimizer": way} if way == "sgd" else {"table_update": way}
        self.cfg = TrainConfig(batch_size=batch, device="cpu", save_every_s=0, **rule)
        backend.apply(self.cfg)
        self.task = RankingTask(self.data)
        settings: dict[str, Any] = {"embedding": {"dim": dim}, "seed": 1}
        self.mf = create("mf", schema, l2=0.0, **settings)
        self.given = create("mf", schema, **settings)
        for table, name, vectors in ((self.given.user_table, "user", data.users),
                                     (self.given.item_table, "item", data.items)):
            rows = torch.cat([torch.zeros(FIRST, dim), torch.from_numpy(vectors)])
            table.load_rows(name, rows)
        self.gcn = create("lightgcn", schema, layers=layers, **settings)
        self.gcn.prepare(self.data.lists("train"))
        self.pairs = len(self.task.train)
        self.facts = {"digest": data.digest(), "version": torch.__version__, "pairs": self.pairs,
                      "users": len(self.task.valid)}

    def rank(self) -> dict[str, float]:
        """Full ranking by the given vectors."""
        ranks = self.task.ranking(self.given, self.task.valid).ranks
        capped = hits(ranks, K).sum() / ranks.relevant.clamp(max=K).sum()
        return {"recall": float(recall(ranks, K).mean()), "ndcg": float(ndcg(ranks, K).mean()),
                "capped": float(capped)}

    def bpr(self, steps: int = 0) -> dict[str, Any]:
        """An epoch, or some steps of it."""
        return self._train(self.mf, steps)

    def lightgcn(self, steps: int = 0) -> dict[str, Any]:
        """The same."""
        return self._train(self.gcn, steps)

    def _train(self, model: Any, steps: int) -> dict[str, Any]:
        task = RankingTask.__new__(RankingTask)
        task.__dict__.update(self.task.__dict__)
        rows = min(steps * self.cfg.batch_size, self.pairs) if steps else self.pairs
        task.train = self.task.train.first(rows)
        way = "autograd" if model.whole_table else self.cfg.table_update
        cfg = self.cfg.model_copy(update={"table_update": way})
        Trainer(task, cfg, schedule=[cfg.lr]).fit(model)
        return {"pairs": rows}


if __name__ == "__main__":
    serve(Ours)
