"""A run of a model that ranks: fitted and tested by one of two protocols, to test metrics, ranks and a row.

honest: settings and epoch are chosen on valid; then the model is fitted anew on train and valid together, for
as many epochs at the same learning rates, and tested once. published: as the papers on these splits did, the
epoch is picked on the test split itself; such rows are marked and never stand beside honest ones.
Where users are held out of training (evaluation/heldout.py), models are fitted on the others alone: settings
and epoch are chosen on the users of valid, and those of test are asked once. Such runs are honest.
Where the data say which test items were judged, and not relevant (evaluation/judged.py), these are the
candidates, and rare items are tested apart too. Where no test item is in train or valid (evaluation/cold.py),
the test items alone are the candidates, and the model must read the columns of items.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from . import rankgiven
from .board.draws import FILE, Draws, of_users, write_draws
from .board.key import COLD, HELD_OUT, JUDGED, RANKING
from .board.rows import Row
from .config import read_toml
from .data.splitspec import given_of, rejected_of
from .data.store import Prepared
from .errors import InputError
from .evaluation import cold, heldout, judged, slices
from .evaluation.full_rank import FullRanking, NotFinite
from .files import locked, write_whole
from .itemlists import ItemLists
from .metrics.bootstrap import interval_of
from .metrics.ranking import METRICS, SNIPS, evaluate_ranking
from .models.base import RankingModel, Scorer
from .nn import kernels
from .rankfiles import RANKS, USERS, write_ranks, write_users
from .tasks.ranking import KS, RankingTask, scores_of
from .train.backend import device_of, set_matmul
from .train.callbacks import Callback, JsonLines, Progress, TensorBoard
from .train.checkpoint import save_checkpoint
from .train.position import Fit
from .train.trainer import Trainer, check_stages
from .zoo import create, list_models, model_class

if TYPE_CHECKING:
    from .runs import RunConfig

MAIN = f"recall@{KS[0]}"


class Measured(NamedTuple):
    """The places on a split, metrics of `users` [U] each, further ones, and the name of the main metric."""

    found: FullRanking
    users: Tensor
    values: dict[str, Tensor]
    more: dict[str, float]
    main: str

    @property
    def means(self) -> dict[str, float]:
        """All metrics."""
        return {name: float(value.mean()) for name, value in self.values.items()} | self.more


class RankingRun:
    """The fits of one run and what they came to; `run` makes them."""

    def __init__(self, cfg: RunConfig, data: Prepared, out: Path, resume: bool, say: Any,
                 callbacks: list[Callback]) -> None:
        self.cfg, self.data, self.out, self.resume, self.say = cfg, data, out, resume, say
        self.callbacks = callbacks
        self.published = cfg.protocol == "published"
        self.both = fitted_on(cfg, data)
        self.fit = Fit("done", "", 0, 0, {}, 0.0, 0.0, 0.0)
        self.seconds = 0.0  # of all fits

    def model(self) -> Scorer | RankingModel:
        """The model with its initial weights; InputError for one that does not rank."""
        return _create(self.cfg, self.data, self.say)

    def run(self) -> tuple[Scorer | RankingModel, dict[str, float], Measured | None]:
        """The fitted model, metrics of valid and test, and what was found on test (None of a dead run)."""
        model = self.model()
        fitted = self._scorer if isinstance(model, Scorer) else self._trained
        return fitted(model)

    def _dead(self, model: Any, metrics: dict[str, float], split: str) -> tuple[Any, dict[str, float], None]:
        """What is left of a run whose scores are NaN or infinite."""
        reason = f"{model.name}: its scores on {split} are NaN or infinite; choose milder settings"
        self.fit = replace(self.fit, status="dead", reason=reason)
        return model, metrics, None

    def _scorer(self, model: Scorer) -> tuple[Scorer, dict[str, float], Measured | None]:
        metrics: dict[str, float] = {}
        began = time.perf_counter()
        if not self.published:
            task = self._task(model, ("train",), "valid")
            model.fit(task.learnt)
            metrics = _named("valid", task.evaluate(model, task.valid, 0).metrics)
            if not metrics:
                return self._dead(model, metrics, "valid")
        if self.published or self.both != ("train",):
            model.fit(self.data.lists(*self.both))
        self.seconds = time.perf_counter() - began
        return self._tested(model, metrics)

    def _trained(self, model: RankingModel) -> tuple[RankingModel, dict[str, float], Measured | None]:
        if self.published:
            task = self._task(model, self.both, "test")
            self.fit = self._train(model, task, self.both, "state", "log.jsonl")
            return self._tested(model, {}) if self.fit.valid else (model, {}, None)
        task = self._task(model, ("train",), "valid")
        if warning := task.unwatchable(self.cfg.train.monitor):
            self.say(warning)
        self.fit = self._train(model, task, ("train",), "state", "log.jsonl")
        if self.fit.status != "done":
            return model, _named("valid", self.fit.valid), None
        if self.both == ("train",):
            return self._tested(model, _named("valid", self.fit.valid))
        rates = self.fit.rates[: self.fit.best_epoch]
        self.say(f"fitting again on {' and '.join(self.both)} for {len(rates)} epochs")
        again = _create(self.cfg, self.data, lambda line: None)
        task = self._task(again, self.both, "")
        refit = self._train(again, task, self.both, "refit", "refit.jsonl", rates)
        if refit.status != "done":
            self.fit = refit
            return again, _named("valid", self.fit.valid), None
        return self._tested(again, _named("valid", self.fit.valid))

    def _task(self, model: Scorer | RankingModel, train: tuple[str, ...], valid: str) -> RankingTask:
        return _task(self.cfg, self.data, model, train, valid)

    def _train(self, model: RankingModel, task: RankingTask, train: tuple[str, ...], state: str, log: str,
               schedule: tuple[float, ...] | None = None) -> Fit:
        rankgiven.prepare(model, task, train)
        watchers = [JsonLines(self.out / log), TensorBoard(self.out / f"tb/{state}"), *self.callbacks]
        trainer = Trainer(task, self.cfg.train, self.out / state, watchers, self.say, schedule)
        fit = trainer.fit(model, resume=self.resume)
        self.seconds += fit.seconds
        return fit

    def _tested(self, model: Any, metrics: dict[str, float]) -> tuple[Any, dict[str, float], Measured | None]:
        try:
            found = measured(model, self.data, self.both, "test", self.cfg.rare, self.cfg.ks)
        except NotFinite:
            return self._dead(model, metrics, "test")
        further: dict[str, float] = {}
        held_out, items = heldout.holds_out(self.data), self.data.schema.size("item")
        if held_out or protocol_of(self.cfg, self.data) in RANKING.values():
            learnt = heldout.learnt(self.data, *self.both)
            seen = self.data.lists(given_of("test")) if held_out else learnt
            with scores_of(model, seen if held_out else None) as score:
                further = slices.further(score, found.found, seen, learnt, items, _ks(self.data, self.cfg.ks))
        elif cold.is_cold(self.data):
            further = slices.by_ties(found.found.ranks, KS[0])
        else:
            further = judged.JudgedRanking(found.found, found.users).by_ties()
        return model, metrics | _named("test", found.means | further), found

    def kept(self, test: Measured, replicates: int) -> tuple[str, dict[str, float], Draws | None]:
        """Write places and metrics of users; digest of the places, interval of the main metric, resampled
        metrics."""
        write_users(self.out / USERS, test.users, test.values, self.data)
        return write_ranks(self.out / RANKS, test.found, self.data), *self.resampled(test, replicates)

    def resampled(self, test: Measured, replicates: int) -> tuple[dict[str, float], Draws | None]:
        """The interval of the main metric over test users, and the resampled metrics."""
        if not replicates:
            return {}, None
        draws = of_users(test.values, _test_digest(self.data.lists("test"), test.users), replicates)
        interval = interval_of(float(test.values[test.main].mean()), draws.metrics[test.main])
        ends = {f"test.{test.main}_low": interval.low, f"test.{test.main}_high": interval.high}
        return ends, draws


def begin(cfg: RunConfig, data: Prepared, say: Any = lambda line: None
          ) -> tuple[RankingTask, Scorer | RankingModel]:
    """Task and unfitted model of the fit that chooses settings and epoch on valid."""
    train = fitted_on(cfg, data)
    model = _create(cfg, data, say)
    train, valid = (train, "test") if cfg.protocol == "published" else (("train",), "valid")
    task = _task(cfg, data, model, train, valid)
    if warning := task.unwatchable(cfg.train.monitor):
        say(warning)
    if isinstance(model, RankingModel):
        rankgiven.prepare(model, task, train)
    return task, model


def _task(cfg: RunConfig, data: Prepared, model: Scorer | RankingModel, train: tuple[str, ...],
          valid: str) -> RankingTask:
    metric, _, k = cfg.train.monitor.partition("@")
    snips, pairs = (cfg.train.monitor,) * (metric in SNIPS), not k and cold.is_cold(data)
    if isinstance(model, Scorer) or model.learns_lists:
        return RankingTask(data, 0, train=train, valid=valid, snips=snips, ks=_ks(data, cfg.ks), pairs=pairs,
                           lists=not isinstance(model, Scorer))
    learnt = data.lists(*train)
    weight = model.negatives_by(learnt)
    if weight is None and cfg.protocol == "honest":  # what held-out rows alone have was not passed over
        known = torch.bincount(learnt.items, minlength=model.num_items).clamp(max=1)
        weight = None if bool(known.all()) else known
    return RankingTask(data, model.negatives, weight, train=train, valid=valid, snips=snips,
                       ks=_ks(data, cfg.ks), pairs=pairs, drawn_from=model.negatives_from,
                       window=getattr(model.cfg, "window", 0.0),
                       positives=getattr(model.cfg, "positives", "pairs"))


def _ks(data: Prepared, further: Sequence[int]) -> tuple[int, ...]:
    """Lengths of the lists of full rankings, those of the protocol before others: slices are of the first."""
    return tuple(dict.fromkeys((*(heldout.KS if heldout.holds_out(data) else KS), *further)))


def fitted_on(cfg: RunConfig, data: Prepared) -> tuple[str, ...]:
    """The splits that the tested model is fitted on; InputError for data and settings that make no run."""
    held_out = heldout.holds_out(data)
    if cfg.protocol == "honest" and not held_out and "valid" not in data.names:
        raise InputError(f"{data.schema.dataset}: there is no split valid, on which settings and epoch are "
                         "chosen; prepare again with cut_valid = 0.1 under [split]")
    if held_out and cfg.protocol == "published":
        raise InputError(f"{data.schema.dataset}: users who are held out for test never pick the epoch; set "
                         "protocol=honest")
    for name in ("train", "test", *["valid"] * (cfg.protocol == "honest")):
        data.split(name)
        if held_out and name != "train":
            data.split(given_of(name))
    if rejected_of("test") in data.names and cfg.protocol == "published":
        raise InputError(f"{data.schema.dataset}: a test of judged items never picks the epoch; set "
                         "protocol=honest")
    if rejected_of("test") not in data.names:
        cold.check(data, cfg.protocol == "published")
    if too_long := [k for k in cfg.ks if k > data.schema.size("item")]:
        raise InputError(f"ks: {data.schema.dataset} has {data.schema.size('item'):,} items, and no list of "
                         f"{too_long[0]:,} can be made of them; give smaller lengths")
    if len(cfg.train.stages) > 1:
        raise InputError("train.stages: a ranking is fitted again by the rates of one stage; leave one")
    if held_out:
        heldout.check(data)
        return ("train",)
    return tuple(name for name in ("train", "valid") if name in data.names)


def protocol_of(cfg: RunConfig, data: Prepared) -> str:
    """How the rows of these settings and data are scored, as board/key.py words it."""
    if heldout.holds_out(data):
        return HELD_OUT
    if rejected_of("test") in data.names:
        return JUDGED
    return COLD if cold.is_cold(data) else RANKING[cfg.protocol]


def evaluate(run: Path, model: Any, data: Prepared, split: str) -> dict[str, float]:
    """Metrics of the fitted model of a run on a split, what it was fitted on masked; of users who are held
    out what is given of them. InputError for a split that it was fitted on."""
    if split.endswith(given_of("")) and split.removesuffix(given_of("")) in data.names:
        raise InputError(f"split {split}: is what is given of users, and not measured; choose "
                         f"{split.removesuffix(given_of(''))}")
    before = ("train",) if heldout.holds_out(data) else ("train", "valid")
    fitted = tuple(name for name in before if name in data.names)
    if split in fitted:
        raise InputError(f"split {split}: the model was fitted on {' and '.join(fitted)}, and nothing is "
                         "measured there; row.json has the metrics on valid of the fit before, if there was "
                         "one")
    data.split(split)
    settings = run / "config.toml"  # a checkpoint alone has none
    said = read_toml(settings) if settings.is_file() else {}
    return measured(model, data, fitted, split, said.get("rare", 0), said.get("ks", ())).means


def measured(model: Any, data: Prepared, seen: tuple[str, ...], split: str, rare: int = 0,
             ks: Sequence[int] = ()) -> Measured:
    """A fitted model on a split: among all items that are not in the splits `seen`, or among those that were
    judged, where the data know them; then also among the rare ones of these (`RunConfig.rare`), where some of
    them are relevant."""
    task = RankingTask(data, 0, train=seen, valid=split, ks=_ks(data, ks))
    rejected = rejected_of(split)
    if rejected not in data.names:
        found = task.ranking(model, task.valid)
        main = heldout.MAIN if heldout.holds_out(data) else MAIN
        values = evaluate_ranking(found.ranks, task.ks)
        more = {} if task.valid.new is None else _of_pairs(model, task, found, values[main])
        return Measured(found, found.users, values, more, main)
    relevant, shown = data.lists(split), data.lists(split, rejected)
    test = task.judged(model, relevant, shown)
    lengths = sorted({*judged.KS, *ks})
    kept = judged.rare_items(data.lists(*seen), task.items, rare)
    more: dict[str, float] = {}
    if len((few := relevant.among(kept)).items):
        values = task.judged(model, few, shown.among(kept)).metrics(lengths)
        more = {f"rare_{name}": float(value.mean()) for name, value in values.items()}
    return Measured(test.found, test.users, test.metrics(lengths), more, judged.MAIN)


def _of_pairs(model: Any, task: RankingTask, found: FullRanking, main: Tensor) -> dict[str, float]:
    """What is measured of new items beside their places; main [U]: the main metric of the ranked users."""
    tiers = cold.by_tier(found, {MAIN: main, "user_auc": cold.auc_of(found.ranks)}, task.valid.seen)
    return tiers | task.of_pairs(model, task.valid)


def _create(cfg: RunConfig, data: Prepared, say: Any) -> Scorer | RankingModel:
    from .runs import model_settings

    name, held_out = cfg.model["name"], heldout.holds_out(data)
    # what is computed before a training must not depend on whether this process has trained before
    set_matmul(cfg.train.matmul, device_of(cfg.train))
    kernels.forget()
    model = create(name, heldout.schema_of(data), seed=cfg.train.seed, **model_settings(cfg))
    if not isinstance(model, Scorer | RankingModel):
        raise InputError(f"model {name}: learns from labels, and {data.schema.dataset} holds interactions; "
                         "choose one of `recsys-zoo list --family retrieval`")
    if held_out and not model.folds:
        able = [other for other in list_models(family="retrieval") if model_class(other).folds]
        raise InputError(f"model {name}: learns something of each user, and {data.schema.dataset} asks about "
                         f"users who are held out of training, by lists of their items; choose one of {able}")
    if isinstance(model, RankingModel):
        monitors = [f"{metric}@{k}" for metric in METRICS for k in _ks(data, cfg.ks)]
        monitors += [] if held_out else [f"{metric}@{k}" for metric in SNIPS for k in (*judged.KS, *cfg.ks)]
        if cold.is_cold(data):
            monitors += ["auc", "user_auc", "item_auc", *["logloss"] * hasattr(model, "logits")]
        if cfg.train.monitor not in monitors:
            raise InputError(f"train.monitor={cfg.train.monitor!r}: rankings are watched by one of "
                             f"{monitors}")
        check_stages(model, cfg.train)
        device_of(cfg.train)
        rankgiven.check_fits(model, data, {("train",), fitted_on(cfg, data)})  # the second is an hour later
    rankgiven.tell(model, data, say)
    return model


def train(
    cfg: RunConfig,
    data: Prepared,
    out: Path,
    resume: bool,
    command: str,
    callbacks: list[Callback] | None,
    say: Any,
) -> Row:
    """What `runs.train` does, of resolved settings and interactions."""
    from . import runs

    ranking = RankingRun(cfg, data, out, resume, say, callbacks or [Progress()])
    ranking.model()  # InputError before there is a folder that looks like a run
    with locked(out):
        commit = runs.open_run(cfg, data, out, resume)
        try:
            model, metrics, test = ranking.run()
        except KeyboardInterrupt:
            say(f"stopped; go on with: recsys-zoo train --resume {out}")
            raise SystemExit(130) from None
        digest = ""
        if test is not None:
            digest, ends, draws = ranking.kept(test, cfg.bootstrap)
            metrics |= ends
            if draws is not None:
                write_draws(out / FILE, draws)
        facts = runs.facts_of(cfg, replace(ranking.fit, seconds=ranking.seconds), model)
        facts |= {"protocol": protocol_of(cfg, data), "selection": "test" if ranking.published else "valid"}
        if isinstance(model, Scorer):
            facts["device"] = "cpu"
        row = runs.make_row(cfg, data, metrics, **facts, command=command, scores_digest=digest)
        row = row.model_copy(update={"git": commit})
        encoding = (data.folder / "encoding").absolute() if data.folder else None
        facts = {"data_digest": data.data_digest, "precision": cfg.train.precision}
        settings = runs.model_settings(cfg)
        seen = heldout.learnt(data, *ranking.both)
        save_checkpoint(out / "checkpoint", model, cfg.model["name"], settings, encoding, facts, seen)
        write_whole(out / "row.json", row.model_dump_json(indent=1))
    return row


def _test_digest(relevant: ItemLists, users: Tensor) -> str:
    row, item = relevant.of_users(users)
    return hashlib.sha256(users[row].numpy().tobytes() + item.numpy().tobytes()).hexdigest()


def _named(split: str, metrics: dict[str, float]) -> dict[str, float]:
    return {f"{split}.{name}": value for name, value in metrics.items()}
