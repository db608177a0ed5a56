"""Three gloo processes rank what one ranks, each for a share of the users: the same bit for bit."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch import Tensor

from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.full_rank import FullRanking
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.tasks.ranking import RankedExamples, RankingTask

from . import test_ranking

WORLD = 3


def ranked(kind: str) -> dict[str, Tensor]:
    """What a process gets: of all users, of one (so that most processes have none), of none, and where the
    scores of one user are no numbers; metrics too."""
    held = test_ranking.data()
    task, model = RankingTask(held, 1), test_ranking.model(held)
    examples = task.valid
    if kind == "one user":
        few = examples.relevant.share(4, len(examples.relevant))
        examples = RankedExamples(few, examples.seen)
    elif kind == "nobody":
        examples = RankedExamples(examples.seen, examples.seen)
    elif kind == "broken":
        model.user.tables()[0].weight.data[7] = torch.nan
    if kind == "nobody":
        with pytest.raises(InputError, match="no user has a relevant item"):
            task.ranking(model, examples)
        return {}
    metrics = task.evaluate(model, examples, 0).metrics
    found = {f"metric {name}": torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()}
    if kind == "broken":
        return found
    ranking = task.ranking(model, examples)
    return found | {"users": ranking.users, "items": ranking.items, "user": ranking.ranks.user,
                    "above": ranking.ranks.above, "tied": ranking.ranks.tied,
                    "candidates": ranking.ranks.candidates}


KINDS = ("all users", "one user", "nobody", "broken")


def _worker(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    for kind in KINDS:
        save_file({"done": torch.ones(1), **ranked(kind)}, f"{folder}/{kind}-{rank}.safetensors")
    dist.destroy_process_group()
    os._exit(0)  # see train/test_two_ranks.py


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("processes")
    mp.spawn(_worker, args=(str(made),), nprocs=WORLD)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_processes_find_what_one_finds(folder, kind):
    expected = ranked(kind)
    assert {"all users": 100, "one user": 1}.get(kind, 0) <= len(expected.get("users", ())) <= 150
    assert bool(expected) == (kind in ("all users", "one user"))
    for rank in range(WORLD):
        found = load_file(folder / f"{kind}-{rank}.safetensors")
        assert found.pop("done") == 1
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_shares_of_users_are_joined_in_any_order_and_none_twice():
    held = test_ranking.data()
    task, model = RankingTask(held, 1), test_ranking.model(held)
    whole = task.ranking(model, task.valid)
    of_share = lambda part: task.ranking(  # noqa: E731
        model, RankedExamples(task.valid.relevant.share(part, 4), task.valid.seen))
    shares = [of_share(part) for part in (2, 0, 3, 1)]
    joined = FullRanking.merged(shares)
    for name in ("users", "items"):
        assert torch.equal(getattr(joined, name), getattr(whole, name))
    for name in ("user", "above", "tied", "candidates"):
        assert torch.equal(getattr(joined.ranks, name), getattr(whole.ranks, name))
    with pytest.raises(InputError, match="is in two of the rankings"):
        FullRanking.merged([*shares, shares[1]])


def test_shares_of_lists():
    lists = ItemLists.of(torch.tensor([0, 1, 1, 3]), torch.tensor([4, 2, 5, 0]), 5, 6)
    share = lists.share(1, 2)
    assert (len(share), share.counts.tolist(), share.items.tolist()) == (5, [0, 2, 0, 1, 0], [2, 5, 0])
