"""Users who are held out of training: what models learn from, what they see of the others, the metrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from recsys_zoo import create
from recsys_zoo.data.store import Prepared, Split
from recsys_zoo.errors import InputError
from recsys_zoo.evaluation import heldout
from recsys_zoo.tasks.ranking import RankingTask
from tests import toys
from tests.unit.tasks import test_ranking as blocks

KNOWN, ASKED = 90, 30  # users of training, of valid, of test
ITEMS = blocks.ITEMS


def data(**moved: tuple[str, int]) -> Prepared:
    """The blocks: the first users train, of the others every third item is asked. moved: row from a split."""
    whole = blocks.data()
    user, item = whole.lists("train", "valid", "test").pairs()
    place = torch.arange(len(user)) - whole.lists("train", "valid", "test").offsets[user]
    part = np.where(user < KNOWN, "train", np.where(user < KNOWN + ASKED, "valid", "test"))
    part = np.where((user >= KNOWN) & (place % 3 < 2), np.char.add(part, "_given"), part)
    for to, row in moved.values():
        part[row] = to
    ids = torch.stack([user, item], 1).numpy() + 2
    splits = {name: Split(whole.schema, ids[part == name], None, np.zeros(((part == name).sum(), 0)))
              for name in ("train", "valid_given", "valid", "test_given", "test")}
    return Prepared.in_memory(whole.schema, splits)


def first_row(user: int) -> int:
    return int((blocks.data().lists("train", "valid", "test").pairs()[0] == user).nonzero()[0])


def test_models_are_built_for_the_users_of_training():
    held = data()
    assert heldout.holds_out(held)
    schema = heldout.schema_of(held)
    assert (schema.size("user"), schema.size("item")) == (KNOWN, ITEMS)
    assert schema.column("item") == held.schema.column("item")
    learnt = heldout.learnt(held, "train")
    assert len(learnt) == KNOWN
    assert torch.equal(learnt.items, held.lists("train").items)
    heldout.check(held)


def test_other_data_stay_as_they_are():
    plain = blocks.data()
    assert not heldout.holds_out(plain)
    assert heldout.schema_of(plain) is plain.schema
    assert len(heldout.learnt(plain, "train", "valid")) == blocks.USERS
    held = data()
    clicks = held.schema.model_copy(update={"interactions": False})  # rows of clicks divided by users
    of_clicks = Prepared.in_memory(clicks, {name: held.split(name) for name in held.names}, "clicks")
    assert not heldout.holds_out(of_clicks)
    assert heldout.schema_of(of_clicks) is clicks


def naive(held: Prepared, split: str, l2: float) -> dict[str, list[float]]:
    """EASE by its formula on the users of training, then user after user by the definitions."""
    r = toys.matrix(held.lists("train"), ITEMS)[:KNOWN]
    inverse = torch.linalg.inv(r.T @ r + l2 * torch.eye(ITEMS, dtype=torch.float64))
    weight = -inverse / inverse.diagonal()
    weight.fill_diagonal_(0)
    given, asked = (toys.matrix(held.lists(name), ITEMS) for name in (f"{split}_given", split))
    found: dict[str, list[float]] = {"recall_capped@20": [], "recall@20": [], "ndcg@100": []}
    for own, wanted in zip(given, asked, strict=True):
        if not wanted.any():
            continue
        scores = (own @ weight).tolist()
        ranked = sorted((i for i in range(ITEMS) if not own[i]), key=lambda i: -scores[i])
        right = {i for i in range(ITEMS) if wanted[i]}
        hits = len(right & set(ranked[:20]))
        found["recall@20"].append(hits / len(right))
        found["recall_capped@20"].append(hits / min(20, len(right)))
        gain = sum(1 / math.log2(place + 2) for place, i in enumerate(ranked[:100]) if i in right)
        found["ndcg@100"].append(gain / sum(1 / math.log2(place + 2) for place in range(len(right))))
    return found


@pytest.mark.parametrize("split", ["valid", "test"])
def test_metrics_are_those_of_a_loop(split):
    held = data()
    task = RankingTask(held, 0, valid=split)
    model = create("ease", heldout.schema_of(held), l2=3.0)
    model.fit(task.learnt)
    metrics = task.evaluate(model, task.valid, 0).metrics
    expected = naive(held, split, 3.0)
    assert 20 < len(expected["ndcg@100"]) == len(task.valid) <= ASKED
    for name, values in expected.items():
        assert metrics[name] == pytest.approx(np.mean(values), abs=1e-9), name
    assert {name.partition("@")[2] for name in metrics} == {"20", "50", "100"}


def test_models_meet_what_is_given_and_nothing_that_is_asked():
    """All lists that reach a model, in the fit and in the ranking, are noted."""
    held = data()
    task = RankingTask(held, 0, valid="test")
    model = create("itemknn", heldout.schema_of(held), neighbors=5)
    fit, score_lists, met = model.fit, model.score_lists, []
    model.fit = lambda lists: (met.append(lists), fit(lists))[1]
    model.score_lists = lambda lists: (met.append(lists), score_lists(lists))[1]
    model.fit(task.learnt)
    task.ranking(model, task.valid)
    came = torch.cat([lists.items for lists in met])
    ranked = held.lists("test").counts.nonzero().squeeze(1)  # users with an asked item
    train, given = held.lists("train"), held.lists("test_given").rows(ranked)
    assert torch.equal(came, torch.cat([train.items, given.items]))
    counts = torch.cat([lists.counts for lists in met])
    assert torch.equal(counts, torch.cat([train.counts[:KNOWN], given.counts]))
    asked, own = (set(zip(*(t.tolist() for t in held.lists(name).pairs()), strict=True))
                  for name in ("test", "test_given"))
    assert asked
    assert not asked & own


def test_users_who_train_or_of_whom_nothing_is_given_are_refused():
    with pytest.raises(InputError, match="a user of 'valid' has a row in train"):
        heldout.check(data(one=("train", first_row(KNOWN))))
    held = data()
    splits = {name: held.split(name) for name in held.names}
    ids = splits["valid_given"].ids
    few = ids[ids[:, 0] != ids[0, 0]]
    splits["valid_given"] = Split(held.schema, few, None, np.zeros((len(few), 0)))
    with pytest.raises(InputError, match="of a user of 'valid' nothing is given"):
        heldout.check(Prepared.in_memory(held.schema, splits))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("lists_on", ["cpu", "cuda"])
def test_a_gpu_and_a_cpu_agree(lists_on):
    held, found = data(), []
    for device in ("cpu", "cuda"):
        task = RankingTask(held, 0, valid="test", lists=True)
        model = create("multivae", heldout.schema_of(held), seed=1, hidden=[16], latent=4).to(device)
        model.prepare(task.learnt)
        examples = task.valid if device == "cpu" else task.valid.on(torch.device(lists_on))
        found.append(task.evaluate(model, examples, 0).metrics)
        users = torch.arange(KNOWN)
        found[-1]["scores"] = float(model.eval().scoring()(users).sum())
    assert found[1] == pytest.approx(found[0], rel=1e-3)
