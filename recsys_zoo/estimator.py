"""A model of the zoo as a scikit-learn classifier: frames in, probabilities out, no file unless `save` is
called."""

from __future__ import annotations

import contextlib
import functools
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor

from .data.spec import ColumnSpec, DataSpec
from .data.split import hash_unit
from .data.store import Prepared, Split
from .errors import InputError, unknown_name
from .models.base import CTRModel
from .tasks.binary import BinaryTask
from .train.callbacks import Callback, Progress
from .train.checkpoint import save_checkpoint
from .train.config import TrainConfig
from .train.position import Fit
from .train.trainer import Trainer
from .zoo import create, resolve

if TYPE_CHECKING:
    import polars as pl

Settings = Mapping[str, Any]
_TRAINING = threading.Lock()  # a training owns torch's random state: threads of one process take turns


class _Classifier:
    """Binary classifier that encodes a table, trains a model of the zoo on it and predicts probabilities.

    model: registry name, presets included ("autoint.plus"); model_settings: its settings, nested as in a
    recipe, {"layers": 2, "embedding": {"dim": 8}}; train_settings: fields of TrainConfig but for seed.
    Two of their defaults differ from TrainConfig's: monitor is logloss, for `predict` cuts probabilities at
    a half, and batch_size the power of two that gives about 100 steps an epoch, from 32 to 4096.
    columns: name -> kind or settings of a ColumnSpec. What they leave open follows the dtype: whole numbers,
    texts, categories, booleans and times are categorical, floats numeric, lists bags. Numbers are
    standardised unless `rule` says otherwise. Missing values (null; NaN in pandas) are unknown or, in
    numbers, 0 after the rule; pandas makes whole numbers with gaps floats, so name such columns.
    validation_fraction: share of the rows held out for early stopping, taken from each class by a hash of
    row number and seed, at least one; 0: the training rows themselves choose the epoch.
    random_state: whole number, RandomState or None (drawn from numpy). The same number gives the same bits
    on the same machine with the same torch and number of threads. Trainings in threads take turns.
    verbose: one line an epoch on stderr.

    After `fit`: classes_ (sorted; the second is the positive one), n_features_in_, feature_names_in_ (for
    named columns), model_ (the network, on the CPU), encoder_, history_ (one dict an epoch), best_epoch_.
    """

    def __init__(
        self, model: str = "autoint", *, model_settings: Settings | None = None,
        train_settings: Settings | None = None, columns: Mapping[str, str | Settings] | None = None,
        validation_fraction: float = 0.1, random_state: Any = None, verbose: bool = False,
    ) -> None:  # fmt: skip
        self.model, self.model_settings, self.train_settings = model, model_settings, train_settings
        self.columns, self.validation_fraction = columns, validation_fraction
        self.random_state, self.verbose = random_state, verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        tags.input_tags.string = tags.input_tags.categorical = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None, eval_set: Any = None) -> Self:
        """Train on a polars or pandas frame, a dict of columns or a 2-D array, and two classes.

        Rows of weight 0 take no part. eval_set=(X, y): rows for early stopping in place of held-out ones;
        steps of a Pipeline before this one do not reach it. InputError (a ValueError) for what cannot be
        trained on.
        """
        from .data.fit import Fitter

        vars(self).pop("model_", None)  # a fit that fails leaves nothing to predict with
        settings, seed = self._settings(), self._seed()
        table = self._table(X, reset=True)
        codes = self._read_classes(y)
        weight = _weights(sample_weight, codes, table.height)
        valid = None if eval_set is None else self._eval_rows(eval_set)
        takes_part = np.ones(table.height, bool) if weight is None else weight > 0
        held = _held_out(codes, takes_part, 0.0 if valid else self._fraction(), seed)
        training = takes_part & ~held
        cfg = self._train_config(seed, int(training.sum()))
        fitter = Fitter(_spec(table, _mapping("columns", self.columns)))
        fitter.add(_chunk(table).filter(training))
        self.encoder_ = fitter.finish()
        train = self._split(table, codes, training, weight)
        if valid is None:
            valid = (table, codes, held if held.any() else training)
        data = Prepared.in_memory(train.schema, {"train": train, "valid": self._split(*valid)})
        self._train(data, cfg, settings)
        return self

    def _train(self, data: Prepared, cfg: TrainConfig, settings: dict[str, Any]) -> None:
        history = _History()
        watchers = [history, Progress()] if self.verbose else [history]
        say = functools.partial(print, file=sys.stderr) if self.verbose else None
        with _undisturbed():
            network = create(self.model, data.schema, seed=cfg.seed, **settings)
            fit = Trainer(BinaryTask(data), cfg, callbacks=watchers, say=say).fit(network)
        _tell_dead(fit)
        self.model_, self.history_, self.best_epoch_ = network.cpu().eval(), history.epochs, fit.best_epoch
        self._train_config_ = cfg
        self._saved_ = {"name": self.model, "settings": settings, "data_digest": data.data_digest}

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits of classes_[1], float32 [rows]; values unseen in training count as unknown."""
        return self._logits(X).numpy()

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of classes_[0] and classes_[1], float64 [rows, 2]."""
        logits = self._logits(X).double()
        return torch.stack([torch.sigmoid(-logits), torch.sigmoid(logits)], 1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The likelier class of each row."""
        likelier = self._logits(X) > 0
        return self.classes_[likelier.long().numpy()]

    def save(self, folder: Path | str) -> None:
        """Write a checkpoint folder, which `recsys_zoo.load` and `recsys-zoo predict` read.

        Their probabilities are those of classes_[1]. InputError for a folder that holds something else.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "model_")
        folder, saved = Path(folder), self._saved_
        checkpoint = (folder / "config.json").is_file() and (folder / "model.safetensors").is_file()
        if folder.exists() and not checkpoint and not (folder.is_dir() and not any(folder.iterdir())):
            raise InputError(f"{folder}: exists and is no checkpoint; choose another folder")
        extra = {
            "data_digest": saved["data_digest"],
            "label": self.encoder_.schema.labels[0],
            "precision": self._train_config_.precision,
            "classes": [str(name) for name in self.classes_],
        }
        with tempfile.TemporaryDirectory() as encoding:
            self.encoder_.save(Path(encoding))
            save_checkpoint(folder, self.model_, saved["name"], saved["settings"], Path(encoding), extra)

    @torch.no_grad()
    def _logits(self, X: Any) -> Tensor:
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(self, "model_")
        x, cfg = self.encoder_.encode(self._table(X, reset=False)), self._train_config_
        with torch.autocast("cpu", torch.bfloat16, enabled=cfg.precision == "bf16"):
            starts = range(0, len(x), cfg.eval_batch_size)
            parts = [self.model_(x.rows(i, i + cfg.eval_batch_size)).float() for i in starts]
        return torch.cat(parts)

    def _settings(self) -> dict[str, Any]:
        """The complete settings of the model."""
        if not isinstance(self.model, str):
            raise InputError(f"model={self.model!r}: give a registry name such as 'autoint'")
        given = _mapping("model_settings", self.model_settings)
        cls, cfg = resolve(self.model, given, "model_settings")
        if not issubclass(cls, CTRModel):
            raise InputError(f"model={self.model!r} ranks items and is no classifier; fit it by itself")
        return cfg.model_dump(mode="json")

    def _seed(self) -> int:
        from sklearn.utils import check_random_state

        if not isinstance(self.random_state, Integral):
            return int(check_random_state(self.random_state).randint(2**31 - 1))
        if not 0 <= self.random_state < 2**31:
            raise InputError(f"random_state={self.random_state}: give a whole number from 0 to 2**31 - 1")
        return int(self.random_state)

    def _fraction(self) -> float:
        share = self.validation_fraction
        if not isinstance(share, Real) or not 0 <= share < 1:
            raise InputError(f"validation_fraction={share!r}: give a share from 0 to below 1")
        return float(share)

    def _train_config(self, seed: int, rows: int) -> TrainConfig:
        given = _mapping("train_settings", self.train_settings)
        if "seed" in given:
            raise InputError(f"train_settings: give seed={given['seed']!r} as random_state")
        size = min(4096, max(32, 2 ** ((rows // 100).bit_length() - 1)))
        values = {"monitor": "logloss", "batch_size": size, **given, "seed": seed}
        return TrainConfig.parse(values, "train_settings")

    def _read_classes(self, y: Any) -> np.ndarray:
        """0 or 1 for each row; sets classes_."""
        from sklearn.utils import assert_all_finite
        from sklearn.utils.multiclass import type_of_target
        from sklearn.utils.validation import column_or_1d

        y = column_or_1d(y, warn=True)
        assert_all_finite(y, input_name="y")
        kind = type_of_target(y, input_name="y", raise_unknown=True)
        if kind != "binary":
            raise InputError(f"Only binary classification is supported. The type of the target is {kind}.")
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(f"y: holds one class only, {self.classes_[0]!r}; give rows of two classes")
        return codes

    def _eval_rows(self, eval_set: Any) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
        """Table, codes and an all-true mask of eval_set."""
        from sklearn.utils.validation import check_consistent_length, column_or_1d

        if not isinstance(eval_set, tuple | list) or len(eval_set) != 2:
            raise InputError("eval_set: give one pair (X, y)")
        table, y = self._table(eval_set[0], reset=False), column_or_1d(eval_set[1], warn=True)
        check_consistent_length(table, y)
        if not np.array_equal(np.unique(y), self.classes_):
            raise InputError(f"eval_set: its y must hold both classes {self.classes_.tolist()} and no other")
        return table, np.searchsorted(self.classes_, y), np.ones(len(y), bool)

    def _split(
        self, table: pl.DataFrame, codes: np.ndarray, mask: np.ndarray, weight: np.ndarray | None = None
    ) -> Split:
        ids, numeric = self.encoder_.arrays(_chunk(table).filter(mask))
        weight = None if weight is None else weight[mask]
        return Split(self.encoder_.schema, ids, numeric, codes[mask], weight)

    def _table(self, X: Any, reset: bool) -> pl.DataFrame:
        """X as a polars frame with the names of `fit`; sets (reset) or checks features and their names."""
        from sklearn.utils.validation import validate_data

        from .data.encode import to_polars

        if isinstance(X, Mapping) and not hasattr(X, "shape"):  # a sparse matrix may be a dict
            X = {str(name): values for name, values in X.items()}
            X = to_polars(X, tuple(X))
        if hasattr(X, "shape") and hasattr(X, "columns"):
            if len(set(X.columns)) < len(X.columns):
                raise InputError("X: two columns have the same name; rename one")
            validate_data(self, X, skip_check_array=True, reset=reset)
        else:
            X = validate_data(self, X, dtype=None, reset=reset)
        names = list(getattr(self, "feature_names_in_", (f"x{place}" for place in range(X.shape[1]))))
        if not X.shape[0]:
            raise InputError("X: has 0 rows (samples); give at least one")
        if isinstance(X, np.ndarray):
            return to_polars({name: X[:, place] for place, name in enumerate(names)}, tuple(names))
        if hasattr(X, "iloc"):
            return _from_pandas(X.set_axis(names, axis=1))
        return to_polars(X, tuple(X.columns)).rename(dict(zip(X.columns, names, strict=True)))


class _History(Callback):
    """Keeps what an epoch came to: numbers that the same seed gives again."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []

    def on_epoch_end(self, info: dict[str, Any]) -> None:
        kept = {key: info[key] for key in ("epoch", "lr", "train_loss", "improved")}
        self.epochs.append(kept | {f"valid.{name}": value for name, value in info["valid"].items()})


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Train alone, and leave torch's random state and settings as they were."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []
    with _TRAINING, torch.random.fork_rng(devices):
        matmul, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
        strict = torch.are_deterministic_algorithms_enabled()
        warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(matmul)
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict, warn_only=warn_only)


def _tell_dead(fit: Fit) -> None:
    """InputError when there are no weights to keep, a warning when they are of no use."""
    from sklearn.exceptions import ConvergenceWarning

    if not fit.valid:
        raise InputError(f"nothing was learnt: {fit.reason}")
    if fit.status == "dead":
        warnings.warn(f"dead run: {fit.reason}", ConvergenceWarning, stacklevel=4)


def _weights(given: Any, codes: np.ndarray, rows: int) -> np.ndarray | None:
    """sample_weight as float64 [rows], or None."""
    from sklearn.utils.validation import check_array, check_consistent_length, column_or_1d

    check_consistent_length(codes, np.empty(rows))
    if given is None:
        return None
    weight = check_array(given, ensure_2d=False, dtype=np.float64, input_name="sample_weight")
    weight = column_or_1d(weight)
    check_consistent_length(codes, weight)
    if (weight < 0).any():
        raise InputError(f"sample_weight: row {int(np.argmax(weight < 0)) + 1} is negative; give 0 or more")
    if not (weight > 0).any():
        raise InputError("sample_weight: every weight is zero; give some rows more")
    return weight


def _held_out(codes: np.ndarray, takes_part: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The rows kept for validation: of each class those with the smallest hash of row number and seed."""
    held = np.zeros(len(codes), bool)
    unit = hash_unit([np.arange(len(codes)).astype(np.str_)], f"validation {seed}")
    for code in (0, 1):
        rows = np.flatnonzero(takes_part & (codes == code))
        if not len(rows):
            raise InputError("sample_weight: only one class has rows of positive weight; both are needed")
        if fraction and len(rows) < 2:
            raise InputError(
                "y: a class with a single row can be held out or trained on, not both; give more rows, "
                "an eval_set or validation_fraction=0"
            )
        count = min(max(1, round(fraction * len(rows))), len(rows) - 1) if fraction else 0
        held[rows[np.argsort(unit[rows], kind="stable")[:count]]] = True
    return held


def _mapping(where: str, value: Any) -> dict[str, Any]:
    """A dict of its own; InputError for what is none."""
    if not isinstance(value, Mapping | None):
        raise InputError(f"{where}={value!r}: give a dict of settings")
    return dict(value or {})


def _chunk(table: pl.DataFrame) -> Any:
    from .data.values import Chunk

    return Chunk(table, "X", np.arange(1, table.height + 1))


def _from_pandas(frame: Any) -> pl.DataFrame:
    """A pandas frame in polars; categories become text, so that categories of numbers stay categories."""
    from .data.encode import to_polars
    from .data.values import as_text

    table = to_polars(frame, tuple(frame.columns))
    categories = [name for name in frame.columns if str(frame[name].dtype) == "category"]
    return table.with_columns(as_text(table.get_column(name), "X") for name in categories)


def _spec(table: pl.DataFrame, columns: Mapping[str, str | Settings]) -> DataSpec:
    """Every column of the table as an input, by its dtype where `columns` says nothing."""
    given = {
        name: {"kind": entry} if isinstance(entry, str) else _mapping(f"columns[{name!r}]", entry)
        for name, entry in columns.items()
    }
    for name, settings in given.items():
        if (raw := settings.get("source") or name) not in table.columns:
            raise unknown_name("column", raw, table.columns)
    label = "y"
    while label in table.columns or label in given:
        label += "_"
    specs = []
    for name in dict.fromkeys((*table.columns, *given)):
        settings = {"name": name, **given.get(name, {})}
        dtype = table.schema[settings.get("source") or name]
        settings.setdefault("kind", _kind(dtype))
        if settings["kind"] == "numeric":
            settings.setdefault("rule", "standardise")
        specs.append(ColumnSpec.parse(settings, f"columns[{name!r}]"))
    return DataSpec.parse({"dataset": "frame", "labels": [label], "columns": specs}, "columns")


def _kind(dtype: Any) -> str:
    import polars as pl

    if isinstance(dtype, pl.List | pl.Array):
        return "bag"
    return "numeric" if dtype.is_float() or dtype.is_decimal() else "categorical"


@functools.cache
def _classifier() -> type:
    """The class proper, made at first use: importing scikit-learn takes a second."""
    from sklearn.base import BaseEstimator, ClassifierMixin

    class CTRClassifier(_Classifier, ClassifierMixin, BaseEstimator):
        __doc__ = _Classifier.__doc__
        __qualname__ = "CTRClassifier"  # where pickle finds it, by __getattr__ below

    return CTRClassifier


def __getattr__(name: str) -> Any:
    if name == "CTRClassifier":
        return _classifier()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
