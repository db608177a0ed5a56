"""Rel-MF where exposure and relevance are known: the semi-synthetic study of Saito et al. (WSDM 2020).

    python benchmarks/unbiased_planted.py run --ratings ML_100K --out LINES.csv
    python benchmarks/unbiased_planted.py table --lines LINES.csv --out TABLE.md

From the ratings of MovieLens-100K (a folder with interactions.parquet or u.data) come two chances of every
pair of a user and an item, relevance gamma and exposure theta. A click is a draw of both. Models learn from
the clicks of all pairs, and are tested on the pairs that were not clicked: by draws of relevance as in the
study, and by gamma itself. `run` goes on where it was stopped.

Unlike in the study, every seed has clicks of its own (there one draw is learnt from five times), and steps
are Adam's, with more L2. The study's own steps are there too ("plain"): at a rate of 0.1, the mean over 4,096
of 1.6 million pairs hardly moves a row of a table.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple

import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from unbiased import read_lines, spread, write_lines

from recsys_zoo.errors import InputError
from recsys_zoo.evaluation.full_rank import top_items
from recsys_zoo.evaluation.judged import judged_ranking
from recsys_zoo.files import write_whole
from recsys_zoo.itemlists import ItemLists
from recsys_zoo.losses.propensity import errors, inverse_propensity_loss, popularity_propensities
from recsys_zoo.metrics.ranking import snips_dcg

POWERS = (0.5, 1.0, 2.0, 3.0, 4.0)  # of theta: the larger, the fewer clicks, and the more uneven
SEEDS = (1, 2)
K = 5
SHIFT = 5.0  # epsilon: gamma = sigmoid(rating - epsilon)
NEGATIVES = 100  # irrelevant items beside the relevant ones of a user
HELD = 0.1  # of all pairs, for the choice of the step
WIDTH, BATCH, EVERY = 10, 4096, 20
L2, RATE, STEPS = 1e-3, 0.01, 200  # of Adam
PLAIN_L2, PLAIN_RATE, PLAIN_STEPS = 1e-5, 0.1, 1000  # of gradient steps, as in the authors' code


class Chances(NamedTuple):
    """Of all pairs [U, I]: relevance gamma, and exposure theta at power 1."""

    gamma: Tensor
    theta: Tensor


class Clicks(NamedTuple):
    """What was drawn, all [U, I]. clicked: how often, as a share of the draws; relevant and free (not
    clicked), bool: in the first draw, which is the test of all."""

    gamma: Tensor
    theta: Tensor
    clicked: Tensor
    relevant: Tensor
    free: Tensor


class Method(NamedTuple):
    """A way to learn. label: the click or gamma itself; theta: 1, the true one, or by popularity.

    half: half of a batch are clicks, as in the authors' code on real data; else all pairs are alike. plain:
    by gradient steps in place of Adam's.
    """

    label: Literal["click", "gamma"] = "click"
    theta: Literal["one", "true", "popularity"] = "one"
    clip: float = 0.0
    half: bool = False
    plain: bool = False


METHODS = {
    "oracle": Method(label="gamma"),
    "MF": Method(),
    "Rel-MF": Method(theta="true"),
    "Rel-MF, M = 0.1": Method(theta="true", clip=0.1),
    "Rel-MF, theta by popularity": Method(theta="popularity"),
    "MF, half clicks": Method(half=True),
    "Rel-MF, half clicks": Method(theta="true", half=True),
    "oracle, plain steps": Method(label="gamma", plain=True),
    "Rel-MF, plain steps": Method(theta="true", plain=True),
    "MF, plain steps": Method(plain=True),
}
ORDER = ("oracle", "Rel-MF", "MF")  # from the best, as expected; the others are compared in fewer cases
FEW_POWER = 2.0
MANY_DRAWS = 30  # of each pair, averaged


def ratings_of(folder: Path) -> tuple[Tensor, Tensor, Tensor]:
    """Users and items, numbered from 0, and ratings of the folder."""
    if (folder / "interactions.parquet").is_file():
        frame = pl.read_parquet(folder / "interactions.parquet")
        frame = frame.rename({name: name[:4] for name in ("user_id", "item_id") if name in frame.columns})
    elif (folder / "u.data").is_file():
        names = ["user", "item", "rating", "time"]
        frame = pl.read_csv(folder / "u.data", separator="\t", has_header=False, new_columns=names)
    else:
        raise InputError(f"{folder}: has neither interactions.parquet nor u.data; get ml-100k.zip from "
                         "https://grouplens.org/datasets/movielens/100k/ and unpack it")
    user, item = ((frame[name].rank("dense").cast(pl.Int64) - 1).to_torch() for name in ("user", "item"))
    return user, item, frame["rating"].cast(pl.Float32).to_torch()


def chances(user: Tensor, item: Tensor, rating: Tensor, seed: int = 12345) -> Chances:
    """Relevance by factors of the ratings, exposure by logistic factors of what was rated at all."""
    users, items = int(user.max()) + 1, int(item.max()) + 1
    generator = torch.Generator().manual_seed(seed)
    rated = torch.zeros(users, items)
    rated[user, item] = 1

    def some() -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.randint(len(user), (256,), generator=generator)
        return user[rows], item[rows], rating[rows]

    def any_pair() -> tuple[Tensor, Tensor, Tensor]:
        places = torch.randint(rated.numel(), (256,), generator=generator)
        return places // items, places % items, rated.flatten()[places]

    products = []
    for draw, cost in ((some, F.mse_loss), (any_pair, F.binary_cross_entropy_with_logits)):
        p, q = (glorot(count, 20, generator) for count in (users, items))
        adam = torch.optim.Adam([p, q], 0.01)
        for _ in range(300):
            rows, columns, label = draw()
            adam.zero_grad()
            cost((p[rows] * q[columns]).sum(1), label).backward()
            adam.step()
        products.append((p @ q.T).detach())
    return Chances((products[0].clamp(1, 5) - SHIFT).sigmoid(), products[1].sigmoid())


def glorot(rows: int, width: int, generator: torch.Generator) -> Tensor:
    """Uniform initial factors, to be learnt."""
    end = (6 / (rows + width)) ** 0.5
    return torch.empty(rows, width).uniform_(-end, end, generator=generator).requires_grad_()


def drawn(known: Chances, power: float, seed: int, draws: int = 1) -> Clicks:
    """Clicks of pairs with the exposure theta^power."""
    generator = torch.Generator().manual_seed(seed)
    theta, total, first = known.theta**power, torch.zeros_like(known.gamma), []
    for _ in range(draws):
        relevant = torch.rand(theta.shape, generator=generator) < known.gamma
        clicked = relevant & (torch.rand(theta.shape, generator=generator) < theta)
        total += clicked.float()
        first = first or [relevant, ~clicked]
    return Clicks(known.gamma, theta, total / draws, *first)


def seen_by(method: Method, clicks: Clicks) -> tuple[Tensor, Tensor]:
    """Labels and propensities [U, I] that a method learns from."""
    label = clicks.gamma if method.label == "gamma" else clicks.clicked
    if method.theta == "true":
        return label, clicks.theta
    if method.theta == "popularity":
        by_item = popularity_propensities((clicks.clicked > 0).sum(0)).float()
        return label, by_item.expand_as(label)
    return label, torch.ones_like(label)


class Fitted(NamedTuple):
    """loss: the smallest on the held pairs, and at which step; scores [U, I] there."""

    loss: float
    step: int
    scores: Tensor


def fitted(method: Method, clicks: Clicks, seed: int) -> Fitted:
    """After the step with the smallest loss, that of the method, on the held pairs."""
    l2, steps = (PLAIN_L2, PLAIN_STEPS) if method.plain else (L2, STEPS)
    label, theta = (t.flatten() for t in seen_by(method, clicks))
    users, items = clicks.gamma.shape
    generator = torch.Generator().manual_seed(seed)
    held = torch.rand(len(label), generator=generator) < HELD
    learnt, valid = (~held).nonzero().squeeze(1), held.nonzero().squeeze(1)
    parts = [learnt[label[learnt] > 0], learnt[label[learnt] == 0]] if method.half else [learnt]
    p, q = glorot(users, WIDTH, generator), glorot(items, WIDTH, generator)
    biases = [torch.zeros(count, requires_grad=True) for count in (users, items, 1)]
    optimizer = (torch.optim.SGD([p, q, *biases], PLAIN_RATE) if method.plain else
                 torch.optim.Adam([p, q, *biases], RATE))

    def loss(pairs: Tensor) -> Tensor:
        user, item = pairs // items, pairs % items
        score = (p[user] * q[item]).sum(1) + biases[0][user] + biases[1][item] + biases[2]
        values = inverse_propensity_loss(score, label[pairs], theta[pairs], method.clip, error="log")
        if not method.half:
            return values.mean()
        some = label[pairs] > 0
        return (values[some].mean() + values[~some].mean()) / 2

    best = Fitted(float("inf"), 0, torch.zeros_like(clicks.gamma))
    for step in range(1, steps + 1):
        rows = [part[torch.randint(len(part), (BATCH // len(parts),), generator=generator)] for part in parts]
        optimizer.zero_grad()
        decay = l2 / 2 * sum(t.square().sum() for t in (p, q, *biases[:2]))
        (loss(torch.cat(rows)) + decay).backward()
        optimizer.step()
        if step % EVERY == 0:
            with torch.no_grad():
                value = float(loss(valid))
                if value < best.loss:
                    best = Fitted(value, step, p @ q.T + biases[0][:, None] + biases[1] + biases[2])
    return best


def measured(scores: Tensor, clicks: Clicks, seed: int = 0) -> dict[str, float]:
    """On the pairs that were not clicked: DCG over |T| of the relevant items among `NEGATIVES` others, as in
    the study; the mean gamma of the best `K` of all; and the log loss of relevance."""
    users, items = scores.shape
    free, relevant = clicks.free, lists(clicks.relevant & clicks.free)
    chance = torch.rand(users, items, generator=torch.Generator().manual_seed(seed))
    others = chance.masked_fill(clicks.relevant, -1.0)
    last = others.topk(min(NEGATIVES, items), 1).values[:, -1:].clamp(min=0)
    judged = lists((clicks.relevant & free) | (others >= last))
    found = judged_ranking(lambda rows: scores[rows], relevant, judged, items).found
    ranked, clicked = found.ranks, lists(~free)
    best, _ = top_items(lambda rows: scores[rows].clone(), torch.arange(users), clicked, items, K)
    one, zero = errors(scores[free].double(), "log")
    return {
        "dcg@5": float(snips_dcg(ranked, K, torch.ones(len(found.items))).mean()),
        "gamma@5": float(clicks.gamma.gather(1, best).double().mean()),
        "loss": float(torch.where(clicks.relevant[free], one, zero).mean()),
    }


def lists(pairs: Tensor) -> ItemLists:
    """The true pairs of a matrix, bool [U, I]."""
    return ItemLists.of(*pairs.nonzero(as_tuple=True), *pairs.shape)


FIELDS = ("power", "draws", "method", "seed", "clicks", "step", "dcg@5", "gamma@5", "loss")


def cases() -> Iterator[tuple[float, int, str, int]]:
    """Power, draws, method and seed of every line."""
    for seed in SEEDS:
        yield from ((power, 1, name, seed) for power in POWERS for name in ORDER)
        yield from ((FEW_POWER, 1, name, seed) for name in METHODS if name not in ORDER)
        yield from ((FEW_POWER, MANY_DRAWS, name, seed) for name in ORDER[1:])


def run(options: argparse.Namespace) -> None:
    """One line a case and seed."""
    known = chances(*ratings_of(options.ratings))
    lines = read_lines(options.out) if options.out.is_file() else []
    for power, draws, name, seed in cases():
        key = {"power": f"{power:g}", "draws": str(draws), "method": name, "seed": str(seed)}
        if any(key.items() <= line.items() for line in lines):
            continue
        clicks = drawn(known, power, seed, draws)
        model = fitted(METHODS[name], clicks, seed)
        found = {metric: f"{value:.6f}" for metric, value in measured(model.scores, clicks).items()}
        share = float(clicks.clicked.mean())
        lines.append(key | {"clicks": f"{share:.3g}", "step": str(model.step)} | found)
        write_lines(options.out, FIELDS, lines)
        print(*key.values(), found, flush=True)


def table(options: argparse.Namespace) -> None:
    """Means over seeds, a table a power, and whether the order oracle >= Rel-MF > MF is there."""
    groups: dict[tuple[str, str], dict[str, list[dict[str, str]]]] = {}
    for line in read_lines(options.lines):
        place = groups.setdefault((line["power"], line["draws"]), {})
        place.setdefault(line["method"], []).append(line)
    text = []
    for (power, draws), methods in groups.items():
        share = fmean(float(line["clicks"]) for own in methods.values() for line in own)
        text += [f"## theta^{power}, {draws} draw{'s' * (draws != '1')} of each pair, "
                 f"{100 * share:.3g} % clicks", ""]
        text += ["| method | seeds | DCG@5 | mean gamma of the best 5 | log loss of relevance |"]
        text += ["|---" * 5 + "|"]
        for name in (name for name in METHODS if name in methods):
            own = methods[name]
            cells = [spread([float(line[m]) for line in own]) for m in ("dcg@5", "gamma@5", "loss")]
            text.append(f"| {name} | {len(own)} | {' | '.join(cells)} |")
        text += ["", *order(methods), ""]
    write_whole(options.out, "\n".join(text))
    print("\n".join(text))


def order(methods: dict[str, list[dict[str, str]]]) -> Iterator[str]:
    """In how many seeds the expected order holds, by metric."""
    plain = tuple(f"{name}, plain steps" for name in ORDER)
    for better, worse in (*itertools.pairwise(ORDER), *itertools.pairwise(plain)):
        if better in methods and worse in methods:
            words = []
            for metric, sign in (("dcg@5", 1), ("gamma@5", 1), ("loss", -1)):
                ends = zip(methods[better], methods[worse], strict=True)
                wins = sum(sign * (float(one[metric]) - float(other[metric])) > 0 for one, other in ends)
                words.append(f"{metric} {wins} of {len(methods[better])}")
            yield f"{better} better than {worse} in: {', '.join(words)} seeds."


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, function in (("run", run), ("table", table)):
        command = commands.add_parser(name, help=function.__doc__)
        command.set_defaults(run=function)
        command.add_argument("--out", type=Path, required=True)
        if name == "run":
            command.add_argument("--ratings", type=Path, required=True, help="folder of MovieLens-100K")
        else:
            command.add_argument("--lines", type=Path, required=True, help="the --out of run")
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
