"""A run: from a recipe and prepared data to a checkpoint, test scores and a row."""

from __future__ import annotations

import datetime
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, Field
from torch import Tensor

from .board.draws import FILE as DRAWS
from .board.draws import Draws, draws_of, write_draws
from .board.key import CTR
from .board.rows import Row, config_digest
from .board.scores import Scores, write_scores
from .config import Frozen, read_json, read_toml, write_toml
from .data.spec import SplitSpec
from .data.store import Prepared, Split
from .errors import InputError
from .evaluation.heldout import schema_of
from .files import locked, sha256_file, write_whole
from .machine import device_name, git_commit, peak_mib, processor, reset_peak
from .metrics.binary import auc
from .metrics.bootstrap import interval_of
from .models.base import CTRModel, Model
from .models.floors import seen_pairs
from .nn import kernels
from .nn.embedding import load_vectors
from .registry import merge, preset_training
from .schema import Schema
from .tasks.binary import BinaryTask
from .tasks.ranking import RankingTask
from .train.backend import device_of
from .train.callbacks import Callback, JsonLines, Progress, TensorBoard
from .train.checkpoint import save_checkpoint
from .train.config import TrainConfig
from .train.position import Fit
from .train.trainer import Trainer, check_stages
from .zoo import create, newer_settings, resolve

_OF_RANKINGS = ("ks", "rare")  # settings that do nothing for labels
_Lengths = Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(lambda ks: tuple(sorted({*ks})))]


class RunConfig(Frozen):
    """One training run; a recipe file holds the same settings."""

    board: str = Field("own", pattern=r"^[^/\\.][^/\\]*$", description=(
        "the name of the row's board and of its folder, without slashes and a dot in front"))
    data: str = Field("", description="name of a data recipe, or a prepared folder")
    label: str = Field("", description="which label, where there are several")
    model: dict[str, Any] = Field(description='{"name": registry name, and its settings}')
    train: TrainConfig = TrainConfig()
    hparams: Literal["inherited", "valid", "default"] = Field("default", description=(
        "where the settings come from: inherited from a published table (chosen partly on test there), tuned "
        "on our valid split, or the model's defaults"))
    trials: int = Field(1, ge=1, description="trials behind settings tuned on valid")
    minutes: float = Field(0.0, ge=0, description=(
        "budget of that tuning, in minutes of training; 0: the number of trials was"))
    choice: str = Field("", description="the rule by which settings tuned on valid were chosen")
    bootstrap: int = Field(200, ge=0, description="replicates of the test intervals; 0: none")
    note: str = Field("", description="stands beside every number of the run")
    protocol: Literal["honest", "published"] = Field("honest", description=(
        "of rankings: how the epoch is chosen, and what is fitted (see rankruns.py)"))
    ks: _Lengths = Field((), description=(
        "of rankings: further lengths of lists that metrics are taken of, beside those of the protocol"))
    rare: int = Field(0, ge=0, description=(
        "of tests among judged items: items of at most so many training pairs are rare, and tested apart "
        "too; 0: of no more than the median item has"))

    def resolved(self) -> RunConfig:
        """The same with every default of the model written out."""
        settings = dict(self.model)
        name = settings.pop("name", "")
        if not name:
            raise InputError("model: the setting 'name' is missing; write name = \"autoint\" under [model]")
        cls, cfg = resolve(name, settings, f"model {name}")
        given = {key: getattr(self.train, key) for key in self.train.model_fields_set}
        train = TrainConfig(**{**preset_training(cls, name), **given})
        return self.model_copy(
            update={"model": {"name": name, **cfg.model_dump(mode="json")}, "train": train}
        )


def read_recipe(path: Path, overrides: dict[str, Any] | None = None) -> RunConfig:
    """A recipe file with command-line overrides; InputError names the file and the setting."""
    return RunConfig.parse(merge(read_toml(path), overrides or {}), str(path))


def train(
    cfg: RunConfig,
    data: Prepared,
    out: Path,
    *,
    resume: bool = False,
    command: str = "",
    callbacks: list[Callback] | None = None,
    say: Any = print,
) -> Row:
    """Train, score valid and test once with the best weights, and write the run folder. Returns its row.

    `resume` goes on with an interrupted run of the same settings; without it a folder that holds a run is
    refused.
    """
    out = Path(out).absolute()  # the working directory may change while the training runs
    encoding = (data.folder / "encoding").absolute() if data.folder else None
    cfg = with_label(cfg.resolved(), data)
    data.verify()
    reset_peak()
    if data.schema.interactions:
        from . import rankruns

        return rankruns.train(cfg, data, out, resume, command, callbacks, say)
    task, model = begin(cfg, data, say)  # before there is a folder that looks like a run
    if len(data.schema.labels) > 1:
        say(f"label {task.label}, one of {list(data.schema.labels)}; another one by --set label=NAME")
    with locked(out):
        commit = open_run(cfg, data, out, resume)
        watchers = [JsonLines(out / "log.jsonl"), TensorBoard(out / "tb"), *(callbacks or [Progress()])]
        try:
            fit = Trainer(task, cfg.train, out / "state", watchers, say).fit(model, resume=resume)
        except KeyboardInterrupt:
            say(f"stopped; go on with: recsys-zoo train --resume {out}")
            raise SystemExit(130) from None
        scores = {
            name: task.scores(model, data.split(name), cfg.train.eval_batch_size, cfg.train.precision)
            for name in data.names
            if name != "train" and fit.valid  # a run that died in its first epoch has nothing to score
        }
        row = _row(cfg, data, task, fit, scores, model, out, command)
        row = row.model_copy(update={"git": commit})
        facts = {"data_digest": data.data_digest, "label": task.label, "precision": cfg.train.precision}
        save_checkpoint(out / "checkpoint", model, cfg.model["name"], model_settings(cfg), encoding, facts)
        write_whole(out / "row.json", row.model_dump_json(indent=1))
    return row


def begin(cfg: RunConfig, data: Prepared, say: Any) -> tuple[BinaryTask | RankingTask, Model]:
    """The task and the untrained model of resolved settings; InputError for what cannot be trained."""
    if data.schema.interactions:
        from . import rankruns

        return rankruns.begin(cfg, data, say)
    if given := [name for name in _OF_RANKINGS if getattr(cfg, name) != RunConfig.model_fields[name].default]:
        raise InputError(f"{given[0]}: is of rankings, and {data.schema.dataset} holds labels; leave it out")
    task = BinaryTask(data, cfg.label)
    device_of(cfg.train)
    model = create(cfg.model["name"], data.schema, seed=cfg.train.seed, **model_settings(cfg))
    if not isinstance(model, CTRModel):
        raise InputError(
            f"model {cfg.model['name']}: ranks items, and these data have labels; prepare the files as "
            "[interactions]"
        )
    for column, rows in data.vectors().items():
        layers = load_vectors(model, column, torch.from_numpy(rows))
        say(f"column {column}: {layers or 'no'} table of this model starts from the data's vectors")
    check_stages(model, cfg.train)
    return task, model


def model_settings(cfg: RunConfig) -> dict[str, Any]:
    return {key: value for key, value in cfg.model.items() if key != "name"}


def with_label(cfg: RunConfig, data: Prepared) -> RunConfig:
    """The settings with the label written out where the data have several."""
    if len(data.schema.labels) > 1 and not cfg.label:
        return cfg.model_copy(update={"label": data.schema.labels[0]})
    return cfg


def open_run(cfg: RunConfig, data: Prepared, out: Path, resume: bool) -> str:
    """Write config.toml and the commit, or check that a resumed folder belongs to the same run.

    Returns the commit for the row: "first..now" when the program changed before the resume.
    """
    text = write_toml(identity(cfg, data.data_digest))
    path = out / "config.toml"
    begun = (out / "row.json").is_file() or (out / "state" / "state.json").is_file()
    if not path.is_file() or not (begun or resume):
        if resume:
            raise InputError(f"{out}: no run to resume here (config.toml is missing)")
        write_whole(path, text)
        (out / "commit").unlink(missing_ok=True)
    elif not resume:
        raise InputError(f"{out}: already holds a run; resume it with --resume or choose another --out")
    elif read_toml(path) != tomllib.loads(text):
        raise InputError(
            f"{out}: its config.toml differs from this run's settings or data; resume it as it was"
        )
    if data.folder is not None:
        write_whole(out / "data_path", str(data.folder.resolve()))
    now, held = git_commit(), out / "commit"
    if not held.is_file():
        write_whole(held, now)
    first = held.read_text(encoding="utf-8")
    return now if first == now else f"{first}..{now}"


def _row(cfg: RunConfig, data: Prepared, task: BinaryTask, fit: Fit, scores: dict[str, Tensor], model: Any,
         out: Path, command: str) -> Row:
    metrics: dict[str, float] = {}
    digest = ""
    for name, values in scores.items():
        split = data.split(name)
        found = task.metrics(values, split)
        metrics |= {f"{name}.{key}": value for key, value in found.items()}
        if name == "test":
            digest = write_scores(
                out / "scores_test.parquet", split.labels[:, task.place], values.numpy(), split.group
            )
            extras, draws = test_extras(values, data, task.place, cfg.bootstrap)
            metrics |= extras
            if draws is not None:
                write_draws(out / DRAWS, draws)
    facts = facts_of(cfg, fit, model)
    return make_row(cfg, data, metrics, **facts, command=command, scores_digest=digest)


def facts_of(cfg: RunConfig, fit: Fit, model: Model) -> dict[str, Any]:
    """What a training says about itself, as fields of its row."""
    return {
        "seed": cfg.train.seed,
        "seeded": model.seeded,
        "params": model.num_parameters(),
        "kept": 1.0,
        "epochs": fit.epochs,
        "best_epoch": fit.best_epoch,
        "seconds": round(fit.seconds, 3),
        "rows_per_s": round(fit.rows_per_s, 1),
        "status": fit.status,
        "reason": fit.reason,
    }


def make_row(cfg: RunConfig, data: Prepared, metrics: dict[str, float], **facts: Any) -> Row:
    """A Row with all that the machine, the data and the settings say about themselves."""
    name, _, variant = cfg.model["name"].partition(".")
    note = "; ".join(n for n in dict.fromkeys((cfg.note, data.record.get("spec", {}).get("note", ""))) if n)
    split = data.record.get("spec", {}).get("split")
    record = {
        "board": cfg.board,
        "protocol": CTR,
        "model": name,
        "variant": variant,
        "metrics": metrics,
        "peak_mib": round(peak_mib(), 1),
        "device": device_name(cfg.train.device),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "processor": processor(),
        "kernels": "c++" if kernels.called else "torch",
        "torch": torch.__version__,
        "git": git_commit(),
        "config": identity(cfg, data.data_digest),
        "config_digest": config_digest(identity(cfg, data.data_digest)),
        "data_digest": data.data_digest,
        "split": SplitSpec.model_validate(split).words if split else "",
        "table_update": cfg.train.table_update,
        "precision": cfg.train.precision,
        "hparams": cfg.hparams,
        "selection": "test" if valid_is_test(data) else "valid",
        "trials": cfg.trials,
        "minutes": cfg.minutes,
        "choice": cfg.choice,
        "when": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "note": note,
    }
    return Row.model_validate({**record, **facts})


def valid_is_test(data: Prepared) -> bool:
    """Whether the validation rows are the test rows, so that the epoch is picked on test."""
    valid, test = (data.record["splits"].get(name, {}).get("files") for name in ("valid", "test"))
    return valid is not None and valid == test


_LEFT_OUT = ("optimizer", "plateau_from")  # settings of a training that older rows have not


def identity(cfg: RunConfig, data_digest: str) -> dict[str, Any]:
    """All that decides a run: resolved settings and the digest of the data."""
    settings = cfg.model_dump(mode="json")
    for name in ("choice", "protocol", "rare", "minutes", "ks"):  # older rows and runs have none of these
        if getattr(cfg, name) == RunConfig.model_fields[name].default:
            settings.pop(name)
    for name in _LEFT_OUT:
        if getattr(cfg.train, name) == TrainConfig.model_fields[name].default:
            del settings["train"][name]
    newer = newer_settings(cfg.model["name"]).items()
    model = {key: value for key, value in settings["model"].items() if (key, value) not in newer}
    return {**settings, "model": model, "data_digest": data_digest}


def settings_of(row: Row) -> RunConfig:
    """The resolved settings of a row; InputError when it has some that are gone. Of settings that are younger
    than the row it has the defaults, which stand for what was before them."""
    known = {key: value for key, value in row.config.items() if key in RunConfig.model_fields}
    left_out = {name: TrainConfig.model_fields[name].default for name in _LEFT_OUT}  # a preset has others
    known["train"] = left_out | known.get("train", {})
    return RunConfig.parse(known, row.label).resolved()


def is_row_of(row: Row, cfg: RunConfig, data_digest: str) -> bool:
    """Whether a row has these resolved settings, this seed and these data."""
    if (row.seed, row.data_digest) != (cfg.train.seed, data_digest):
        return False
    if row.config.get("model", {}).get("name") != cfg.model["name"]:
        return False
    try:
        settings = settings_of(row)
    except InputError:
        return False
    return config_digest(identity(settings, data_digest)) == config_digest(identity(cfg, data_digest))


def test_extras(
    scores: Tensor, data: Prepared, place: int, replicates: int
) -> tuple[dict[str, float], Draws | None]:
    """Test AUC on pairs unseen in training and the bootstrap interval of the AUC, with its resamples (of
    users where there are users)."""
    split = data.split("test")
    labels = torch.from_numpy(split.labels[:, place].copy())
    extras: dict[str, float] = {}
    if data.schema.user and data.schema.item:
        new = ~seen_pairs(data.split("train"), split)
        extras["test.auc_unseen_pairs"] = auc(scores[new], labels[new])
        extras["test.seen_pair_rate"] = float((~new).float().mean())
    if not replicates:
        return extras, None
    group = None if split.group is None else torch.from_numpy(split.group[:].copy())
    draws = draws_of(Scores(labels, scores, group), replicates)
    interval = interval_of(auc(scores, labels), draws.metrics["auc"])
    return {**extras, "test.auc_low": interval.low, "test.auc_high": interval.high}, draws


def failed_row(cfg: RunConfig, data: Prepared, reason: str, command: str) -> Row:
    """The row of a run that could not be made."""
    facts = {"params": 0, "kept": 1.0, "epochs": 0, "best_epoch": 0, "seconds": 0.0, "rows_per_s": 0.0}
    return make_row(
        cfg,
        data,
        {},
        seed=cfg.train.seed,
        status="failed",
        reason=reason,
        command=command,
        scores_digest="",
        **facts,
    )


def table_mib(cfg: RunConfig, data: Prepared) -> int:
    """Memory of the embedding rows of a run with their gradients and moments, by its widths and the data."""
    rows = sum(data.table_sizes.values()) if "embedding" in cfg.model else 0
    copies = 4 if cfg.train.table_update == "autograd" else 3
    return rows and round(rows * cfg.model["embedding"]["dim"] * 4 * copies / 2**20)


def read_row(run: Path) -> Row:
    """The row of a finished run; InputError when the folder holds none."""
    path = Path(run) / "row.json"
    if not path.is_file():
        raise InputError(f"{run}: holds no row.json; is it a finished run?")
    return Row.parse(read_json(path), str(path))


def evaluate(run: Path, data: Prepared, split: str = "test", label: str = "") -> dict[str, float]:
    """Metrics of a checkpoint on a split of prepared data; the data must have the checkpoint's columns."""
    from .predictor import load

    predictor = load(run)
    check_same_encoding(predictor.config, predictor.schema, data)
    if not isinstance(predictor.model, CTRModel):
        from . import rankruns

        return rankruns.evaluate(Path(run), predictor.model, data, split)
    task = BinaryTask(data, label or predictor.config.get("label", ""))
    part: Split = data.split(split)
    precision = predictor.config.get("precision", "fp32")
    return task.metrics(task.scores(predictor.model, part, 16384, precision), part)


def check_same_encoding(config: dict[str, Any], schema: Schema, data: Prepared) -> None:
    """InputError unless the data were encoded with the vocabularies and numeric rules of the checkpoint."""
    same = schema.columns == schema_of(data).columns
    if same and data.data_digest != config.get("data_digest") and data.folder is not None:
        same = all(
            sha256_file(data.folder / "encoding" / Path(name).name) == digest
            for name, digest in config["files_sha256"].items()
            if Path(name).parent == Path("vocab") and (data.folder / "encoding" / Path(name).name).is_file()
        )
    if not same:
        raise InputError(
            f"{data.folder}: its columns or vocabularies are not those the model was trained with; "
            "evaluate on data prepared together; `recsys-zoo predict` and `recommend` need none"
        )
