"""A training step as a CUDA graph: one launch instead of hundreds, where the host is slower than the GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from ..batch import Batch

_EAGER = 3  # steps before the capture: they create the optimiser's state and let libraries choose algorithms


class Graphed:
    """`take` (a whole step: forward, backward, optimiser; returns a 0-d loss) replayed on batches of `size`.

    Every call is one real step. The first three run as they are, on the stream and the tensors of the
    capture; a batch of another size always does. What `take` reads and writes must stay in place: what is
    assigned anew between two steps (a learning rate held as a number, say) keeps its captured value.
    """

    def __init__(self, take: Callable[[Batch], Tensor], size: int) -> None:
        self.take, self.size, self.eager = take, size, _EAGER
        self.stream, self.graph, self.batch = torch.cuda.Stream(), None, None

    def __call__(self, batch: Batch) -> Tensor:
        if len(batch) != self.size:
            return self._eagerly(batch)
        if self.batch is None:
            self.batch = pytree.tree_map(torch.clone, batch)
        else:
            pytree.tree_map(lambda held, new: held.copy_(new), self.batch, batch)
        if self.eager:
            self.eager -= 1
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                loss = self._eagerly(self.batch)
            torch.cuda.current_stream().wait_stream(self.stream)
            return loss
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.loss = self.take(self.batch)
        self.graph.replay()
        return self.loss.clone()

    def _eagerly(self, batch: Batch) -> Tensor:
        with warnings.catch_warnings():  # of an Adam that could be captured and is not
            warnings.filterwarnings("ignore", message=".*capturable=True")
            return self.take(batch)
