"""Which call of a captured step runs eagerly, which is captured, and what a replay reads (without a GPU)."""

from __future__ import annotations

import contextlib

import pytest
import torch

from recsys_zoo.train.graph import Graphed

from .test_resume import data


class _Stream:
    def wait_stream(self, other) -> None:
        pass


class _Graph:
    """Replays by calling again what was called during the capture, on the tensors that were held then."""

    def replay(self) -> None:
        self.work()


@pytest.fixture
def recorder(monkeypatch):
    """torch.cuda with a graph that records nothing but can be replayed."""
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "Stream", _Stream)
    monkeypatch.setattr(cuda, "current_stream", _Stream)
    monkeypatch.setattr(cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(cuda, "CUDAGraph", _Graph)
    monkeypatch.setattr(cuda, "graph", lambda graph, stream: contextlib.nullcontext())


def test_every_call_is_one_step_on_its_own_batch(recorder):
    batches = [data().split("train").batch(slice(10 * i, 10 * i + size)) for i, size in
               enumerate([8, 8, 5, 8, 8, 8, 3, 8])]
    expected = [float(batch.inputs.numeric.sum()) for batch in batches]
    eager = []

    def take(batch):
        loss = batch.inputs.numeric.sum()
        eager.append(len(batch))
        if graphed.graph is not None and len(batch) == 8:  # the capture: replays do this again
            graphed.graph.work = lambda: loss.copy_(batch.inputs.numeric.sum())
        return loss

    graphed = Graphed(take, 8)
    assert [float(graphed(batch)) for batch in batches] == expected
    assert eager == [8, 8, 5, 8, 8, 3]  # three steps, one capture, and the batches of other sizes
