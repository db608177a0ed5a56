"""One contender of topk.py: implicit's loops in C++.

Runs in an environment of implicit; recsys_zoo is not imported.
"""

from __future__ import annotations

import time
from typing import Any

import implicit
import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.evaluation import ranking_metrics_at_k
from interactions import generate
from scipy.sparse import csr_matrix
from worker import serve

K, EPOCHS = 20, 3


class Implicit:
    """rank: its evaluation of a model with the given vectors; bpr: its SGD, one pair after the other."""

    def __init__(self, threads: int) -> None:
        data, self.threads = generate(), threads
        self.users, self.items = data.users, data.items
        shape = (len(data.users), len(data.items))
        self.train, self.test = (
            csr_matrix((np.ones(pairs.shape[1], np.float32), tuple(pairs)), shape)
            for pairs in (data.train, data.test)
        )
        ranked = int((self.test.getnnz(1) > 0).sum())
        self.facts = {"digest": data.digest(), "version": implicit.__version__, "pairs": self.train.nnz,
                      "users": ranked}

    def rank(self) -> dict[str, float]:
        """Full ranking by the given vectors; its precision is hits over min(k, relevant), of all users
        together."""
        model = AlternatingLeastSquares(factors=self.users.shape[1], num_threads=self.threads)
        model.user_factors, model.item_factors = self.users, self.items
        found = ranking_metrics_at_k(model, self.train, self.test, K=K, show_progress=False,
                                     num_threads=self.threads)
        return {"capped": float(found["precision"]), "ndcg": float(found["ndcg"])}

    def bpr(self) -> dict[str, Any]:
        """An epoch: what more epochs take beyond the first, by their number."""
        wall, cpu = zip(*(self._fit(epochs) for epochs in (1, 1 + EPOCHS)), strict=True)
        return {"pairs": self.train.nnz, "seconds": (wall[1] - wall[0]) / EPOCHS,
                "cpu_s": (cpu[1] - cpu[0]) / EPOCHS}

    def _fit(self, epochs: int) -> tuple[float, float]:
        model = BayesianPersonalizedRanking(
            factors=self.users.shape[1], iterations=epochs, num_threads=self.threads, random_state=1
        )
        since, used = time.perf_counter(), time.process_time()
        model.fit(self.train, show_progress=False)
        return time.perf_counter() - since, time.process_time() - used


if __name__ == "__main__":
    serve(Implicit)
