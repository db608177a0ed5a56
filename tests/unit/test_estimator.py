"""The scikit-learn face: its contract, one pipeline with the command line, frames of all kinds, errors."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import log_loss, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import recsys_zoo
from recsys_zoo import CTRClassifier
from recsys_zoo.data.prepare import prepare
from recsys_zoo.data.spec import DataSpec
from recsys_zoo.errors import InputError
from recsys_zoo.tasks.binary import BinaryTask
from recsys_zoo.train.config import TrainConfig
from recsys_zoo.train.trainer import Trainer

from .cli.shop import shop

EXCLUDED = {
    "check_sample_weight_equivalence_on_dense_data": "a row of weight 2 is one row to vocabularies, means, "
    "held-out rows and mini-batches, two copies are two; weight 0 alone equals absence",
}
QUICK = {"epochs": 2, "lr": 0.05, "batch_size": 64}
CHECKED = {"epochs": 10, "lr": 0.3, "batch_size": 64}
SMALL = {"layers": 1, "attention_dim": 4, "embedding": {"dim": 4, "init_std": 0.1}}
ESTIMATORS = [CTRClassifier("lr", train_settings=CHECKED)]
ESTIMATORS += [CTRClassifier("fm", model_settings={"embedding": {"dim": 4}}, train_settings=CHECKED)]
ESTIMATORS += [CTRClassifier("autoint", model_settings=SMALL, train_settings={**CHECKED, "lr": 0.05})]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # some data are random
@parametrize_with_checks(ESTIMATORS, expected_failed_checks=lambda _: EXCLUDED, xfail_strict=True)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def rows(count: int = 300) -> tuple[pl.DataFrame, np.ndarray]:
    """Inputs and clicks of the shop."""
    frame = shop(count)
    return frame.drop("click"), frame["click"].to_numpy()


X, Y = rows()


def as_pandas(frame: pl.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(frame.to_dict(as_series=False))


def quick(**settings) -> CTRClassifier:
    return CTRClassifier(**{"model": "fm", "train_settings": QUICK, "random_state": 3, **settings})


def test_it_trains_as_the_command_line_does(tmp_path):
    """Own path from raw rows to weights: files, prepare and Trainer give the same bits."""
    for name, part in (("train.csv", shop(300)[:240]), ("valid.csv", shop(300)[240:])):
        part.write_csv(tmp_path / name)
    price = {"name": "price", "kind": "numeric", "rule": "standardise"}
    columns = [{"name": "user"}, {"name": "item"}, price, {"name": "tags", "kind": "bag"}]
    spec = DataSpec.parse({"dataset": "shop", "labels": ["click"], "columns": columns}, "spec")
    data = prepare([tmp_path / "train.csv"], spec, tmp_path / "out",
                   split_files={"valid": [tmp_path / "valid.csv"]})  # fmt: skip
    settings = {"layers": 1, "attention_dim": 8, "embedding": {"dim": 4}}
    model = recsys_zoo.create("autoint.plus", data.schema, seed=5, **settings)
    fit = Trainer(BinaryTask(data), TrainConfig(**QUICK, monitor="logloss", seed=5)).fit(model)

    ours = quick(model="autoint.plus", model_settings=settings, columns={"tags": "bag"}, random_state=5)
    ours.fit(X[:240], Y[:240], eval_set=(X[240:], Y[240:]))
    assert ours.best_epoch_ == fit.best_epoch
    assert ours.history_[fit.best_epoch - 1]["valid.auc"] == fit.valid["auc"]
    for name, weights in model.state_dict().items():
        assert torch.equal(weights, ours.model_.state_dict()[name]), name


def test_a_saved_folder_is_an_ordinary_checkpoint(tmp_path):
    ours = quick(columns={"tags": "bag"}).fit(X, np.where(Y == 1, "yes", "no"))
    ours.save(tmp_path / "model")
    ours.save(tmp_path / "model")  # its own kind is replaced
    loaded = recsys_zoo.load(tmp_path / "model")
    assert loaded.config["classes"] == ["no", "yes"]
    np.testing.assert_allclose(loaded.predict(X), ours.predict_proba(X)[:, 1], rtol=1e-6)  # float32, float64
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_save_replaces_nothing_foreign(tmp_path):
    ours = quick().fit(*rows(100))
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="exists and is no checkpoint; choose another folder"):
        ours.save(tmp_path)
    with pytest.raises(InputError, match="exists and is no checkpoint"):
        ours.save(tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_it_learns_what_the_rows_tell():
    """Clicks are drawn from known logits; the fit ranks unseen rows nearly as well as these."""
    X, y = rows(3000)
    item = X["item"].str.strip_prefix("i").cast(pl.Int64).to_numpy()
    truth = (item - 12) / 3 + X["price"].to_numpy()
    settings = {"epochs": 6, "lr": 0.02, "batch_size": 64}
    ours = quick(model="lr", train_settings=settings).fit(X[:2000], y[:2000])
    known, found = (roc_auc_score(y[2000:], s) for s in (truth[2000:], ours.decision_function(X[2000:])))
    assert known - 0.02 < found < known + 0.01
    assert ours.predict_proba(X[2000:])[:, 1].mean() == pytest.approx(y[2000:].mean(), abs=0.03)
    assert ours.score(X[2000:], y[2000:]) > 0.75


def test_the_same_seed_gives_the_same_bits_and_another_gives_others():
    settings = {"model": "deepfm", "model_settings": {"dropout": 0.3}}
    first, again, other = (quick(**settings, random_state=s).fit(X, Y) for s in (3, 3, 4))
    assert np.array_equal(first.predict_proba(X), again.predict_proba(X))
    assert first.history_ == again.history_
    assert not np.array_equal(first.predict_proba(X), other.predict_proba(X))
    drawn = [quick(random_state=s).fit(X, Y).decision_function(X) for s in (np.random.RandomState(0),) * 2]
    assert not np.array_equal(*drawn)  # one stream, two seeds


def test_random_state_and_settings_of_torch_are_left_alone():
    torch.manual_seed(11)
    torch.set_float32_matmul_precision("high")
    torch.use_deterministic_algorithms(True, warn_only=True)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    quick(train_settings={**QUICK, "threads": threads + 1, "deterministic": True}).fit(X, Y).predict(X)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_num_threads() == threads
    assert torch.is_deterministic_algorithms_warn_only_enabled()


def test_threads_of_one_process_do_not_disturb_each_other():
    settings = {"model": "deepfm", "model_settings": {"dropout": 0.5}}

    def train(seed: int) -> dict[str, torch.Tensor]:
        return quick(**settings, random_state=seed).fit(X, Y).model_.state_dict()

    alone = [train(seed) for seed in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(train, range(4)), strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)


def test_frames_of_all_kinds_give_the_same_numbers():
    X = rows()[0].select("user", "price", count=pl.lit(2) + pl.col("price").abs().cast(pl.Int64))
    expected = quick().fit(X, Y).predict_proba(X)
    pandas = as_pandas(X)
    as_category = pandas.astype({"count": "category", "user": "category"})
    for other in (pandas, pandas.set_index("user", drop=False), as_category, X.to_dict(as_series=False)):
        fitted = quick().fit(other, pd.Series(Y))
        assert np.array_equal(fitted.predict_proba(other), expected)
        assert np.array_equal(fitted.predict_proba(X), expected)
        assert fitted.feature_names_in_.tolist() == X.columns


def test_arrays_have_columns_by_position():
    numbers = X.select("price", twice=2 * pl.col("price"))
    named = numbers.rename({"price": "x0", "twice": "x1"})
    expected = quick().fit(named, Y).predict_proba(named)
    unnamed = pd.DataFrame(numbers.to_numpy())  # its columns are 0 and 1
    array = numbers.to_numpy()
    for other in (array, array.astype(object), array.tolist(), unnamed):
        fitted = quick().fit(other, Y.tolist())
        assert np.array_equal(fitted.predict_proba(other), expected)
        assert fitted.n_features_in_ == 2
        assert not hasattr(fitted, "feature_names_in_")
    texts = X.select("user", "item").to_numpy().astype(str)
    fitted = quick().fit(texts, Y)
    assert fitted.encoder_.schema.of("categorical") == fitted.encoder_.schema.columns
    assert fitted.encoder_.vocabularies["x1"].values.str.starts_with("i").all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_kinds_follow_the_dtypes_and_columns_overrule_them():
    y = np.arange(12) % 2
    X = pl.DataFrame({
        "whole": [1, 2, 3] * 4, "text": ["a", "b", "c"] * 4, "truth": [True, False, True] * 4,
        "category": pl.Series(["a", "b", "c"] * 4, dtype=pl.Categorical), "real": [0.0, 2.0, 4.0] * 4,
        "several": [["a"], ["b", "c"], []] * 4, "joined": ["a|b", "", "c"] * 4, "y": [1.5] * 12,
    })  # fmt: skip
    encoder = quick(validation_fraction=0).fit(X, y).encoder_
    kinds = {c.name: c.kind for c in encoder.schema.columns}
    assert kinds == dict.fromkeys(("whole", "text", "category", "truth", "joined"), "categorical") | {
        "real": "numeric", "several": "bag", "y": "numeric"}  # fmt: skip
    assert encoder.fitted["real"] == {"mean": 2.0, "std": pytest.approx((8 / 3) ** 0.5)}
    assert encoder.schema.column("several").max_len == 2

    columns = {
        "whole": "numeric", "joined": "bag", "text": {"min_count": 5}, "real": {"rule": "none"},
        "bucket": {"source": "real", "kind": "categorical", "rule": "quantile", "bins": 2},
    }  # fmt: skip
    encoder = quick(validation_fraction=0, columns=columns).fit(X, y).encoder_
    assert encoder.fitted["whole"]["mean"] == 2.0
    assert encoder.schema.column("joined").max_len == 2
    assert encoder.schema.column("text").vocab_size == 2  # padding and unknown: each text is seen 4 times
    assert "real" not in encoder.fitted
    assert encoder.schema.columns[-1].name == "bucket"
    assert encoder.schema.column("bucket").vocab_size == 4


def test_unknown_and_missing_values_are_fine_at_prediction():
    ours = quick(columns={"tags": "bag"}).fit(X, Y)
    new = pl.DataFrame({"user": ["?", None], "item": ["?", "i3"], "price": [None, 0.5], "tags": ["z", None]})
    assert np.isfinite(ours.decision_function(new)).all()
    assert ours.encoder_.encode(new).ids.tolist()[0] == [1, 1]


def held_out(ours: CTRClassifier, count: int) -> np.ndarray:
    """Rows whose own value of column `row` the vocabulary lacks."""
    trained = ours.encoder_.vocabularies["row"].values.cast(pl.Int64).to_numpy()
    return np.setdiff1d(np.arange(count), trained)


def test_held_out_rows_are_stratified_seeded_and_unseen_by_the_encoders():
    X, y = pl.DataFrame({"row": np.arange(200), "price": np.linspace(0, 1, 200)}), np.zeros(200, int)
    y[::5] = 1  # 40 of 200
    held = held_out(ours := quick(validation_fraction=0.25).fit(X, y), 200)
    assert len(held) == 50
    assert y[held].sum() == 10
    training = np.setdiff1d(np.arange(200), held)
    assert ours.encoder_.fitted["price"]["mean"] == pytest.approx(X["price"].to_numpy()[training].mean())
    other = quick(validation_fraction=0.25, random_state=4).fit(X, y)
    assert set(held_out(other, 200)) != set(held)
    least = held_out(quick(validation_fraction=1e-6).fit(X, y), 200)
    assert sorted(y[least]) == [0, 1]
    assert len(held_out(quick(validation_fraction=0.0).fit(X, y), 200)) == 0
    assert len(held_out(quick().fit(X, y, eval_set=(X[:9], y[:9])), 200)) == 0
    most = held_out(quick(validation_fraction=0.999).fit(X, y), 200)
    assert sorted(y[np.setdiff1d(np.arange(200), most)]) == [0, 1]


def test_rows_of_weight_zero_are_rows_that_are_not_there():
    kept, check = np.arange(300) % 3 > 0, (X[:50], Y[:50])
    weighted = quick().fit(X, Y, kept.astype(float), eval_set=check).decision_function(X)
    removed = quick().fit(X.filter(kept), Y[kept], eval_set=check).decision_function(X)
    assert np.array_equal(weighted, removed)


def test_weights_count_in_the_loss():
    plain, doubled, tilted = (
        quick().fit(X, Y, w).predict_proba(X)[:, 1] for w in (None, np.full(300, 2.0), 1 + 9.0 * Y))
    np.testing.assert_allclose(plain, doubled, rtol=1e-5)  # the weighted mean, but for rounding
    assert tilted.mean() > plain.mean() + 0.1


def test_classes_are_sorted_and_the_second_is_positive():
    numbers = quick().fit(X, Y)
    for negative, positive in (("no", "yes"), (False, True), (-7, 7), (1.0, 2.0)):
        labels = np.where(Y == 1, positive, negative)
        ours = quick().fit(X, labels)
        assert ours.classes_.tolist() == [negative, positive]
        assert np.array_equal(ours.predict_proba(X), numbers.predict_proba(X))
        assert np.array_equal(ours.predict(X), np.where(numbers.predict(X) == 1, positive, negative))


def test_history_has_an_entry_an_epoch_and_the_best_is_kept():
    ours = quick(train_settings={**QUICK, "epochs": 4, "patience": 4}).fit(X, Y, eval_set=(X, Y))
    assert [entry["epoch"] for entry in ours.history_] == [1, 2, 3, 4]
    losses = [entry["valid.logloss"] for entry in ours.history_]
    assert ours.best_epoch_ == 1 + int(np.argmin(losses))
    assert log_loss(Y, ours.predict_proba(X)) == pytest.approx(min(losses), rel=1e-5)  # scored as float32
    auc = ours.history_[ours.best_epoch_ - 1]["valid.auc"]
    assert auc == pytest.approx(roc_auc_score(Y, ours.decision_function(X)), abs=1e-6)


@pytest.mark.parametrize(("count", "size"), [(110, 32), (8000, 64), (500_000, 4096)])
def test_batches_grow_with_the_rows_unless_set(count, size):
    ours = CTRClassifier("lr", train_settings={"epochs": 1}, random_state=0)
    ours.fit({"a": np.arange(count) % 7}, np.arange(count) % 2)
    assert ours._train_config_.batch_size == size


def test_pipelines_cross_validation_and_search():
    scores = cross_val_score(quick(model="lr"), X, Y, cv=3, scoring="roc_auc")
    assert scores.shape == (3,)
    assert scores.min() > 0.6
    steps = make_column_transformer((StandardScaler(), ["price"]), ("passthrough", ["item", "user"]))
    pipeline = make_pipeline(steps, quick(columns={"x0": "numeric"})).fit(as_pandas(X), Y)
    assert roc_auc_score(Y, pipeline.predict_proba(as_pandas(X))[:, 1]) > 0.7
    grid = {"model_settings": [{"embedding": {"dim": d}} for d in (2, 4)], "model": ["fm", "lr"]}
    search = GridSearchCV(quick(), grid, cv=2, scoring="neg_log_loss").fit(X, Y)
    assert search.best_estimator_.classes_.tolist() == [0, 1]
    assert len(search.cv_results_["params"]) == 4


def test_copies_before_and_after_the_fit():
    ours = quick(columns={"tags": "bag"})
    expected = clone(ours).fit(X, Y).predict_proba(X)
    for duplicate in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert np.array_equal(duplicate.fit(X, Y).predict_proba(X), expected)
        for fitted in (copy.deepcopy(duplicate), pickle.loads(pickle.dumps(duplicate))):
            assert np.array_equal(fitted.predict_proba(X), expected)
        assert not hasattr(clone(duplicate), "classes_")
    assert type(ours) is CTRClassifier is recsys_zoo.estimator.CTRClassifier


@pytest.mark.slow
def test_processes_of_joblib_give_the_numbers_of_one_process():
    one, two = (cross_val_score(quick(), X, Y, cv=2, n_jobs=n, scoring="roc_auc") for n in (1, 2))
    np.testing.assert_allclose(one, two, rtol=1e-6)  # workers may have another number of threads


def test_nothing_is_written_without_save(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    quick().fit(*rows(100)).predict(rows(100)[0])
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")
    quick(verbose=True).fit(*rows(100))
    out, err = capsys.readouterr()
    assert out == ""
    assert "epoch   2" in err


def test_importing_the_module_leaves_scikit_learn_and_polars_alone():
    code = "import sys, recsys_zoo.estimator; print({'sklearn', 'polars', 'pandas'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


BAD = [
    ({"model": "autoimt"}, {}, "no model named 'autoimt'; did you mean ['autoint']?"),
    ({"model": "ease"}, {}, "model='ease' ranks items and is no classifier"),
    ({"model": 3}, {}, "model=3: give a registry name such as 'autoint'"),
    ({"model_settings": {"embeding": {}}}, {}, "model_settings: no setting named 'embeding'; did you mean"),
    ({"model_settings": [1]}, {}, "model_settings=[1]: give a dict of settings"),
    ({"train_settings": {"epoch": 1}}, {}, "train_settings: no setting named 'epoch'; did you mean"),
    ({"train_settings": {"lr": -1}}, {}, "train_settings: lr = -1: "),
    ({"train_settings": {"seed": 1}}, {}, "train_settings: give seed=1 as random_state"),
    ({"columns": {"prise": "numeric"}}, {}, "no column named 'prise'; did you mean ['price']?"),
    ({"columns": {"price": "numerical"}}, {}, "columns['price']: kind = 'numerical': "),
    ({"columns": {"price": 3}}, {}, "columns['price']=3: give a dict of settings"),
    ({"columns": {"user": "numeric"}}, {}, "X: column 'user', row 1: 'u"),
    ({"validation_fraction": 1}, {}, "validation_fraction=1: give a share from 0 to below 1"),
    ({"random_state": -1}, {}, "random_state=-1: give a whole number from 0 to 2**31 - 1"),
    ({}, {"y": 0 * Y}, "y: holds one class only, "),
    ({}, {"y": np.arange(300) == 3}, "y: a class with a single row can be held out or trained on, not both"),
    ({}, {"y": np.arange(300) % 3}, "Only binary classification is supported. The type of the target is"),
    ({}, {"X": X[:0], "y": []}, "X: has 0 rows (samples); give at least one"),
    ({}, {"X": X.lazy()}, "Expected 2D array"),
    ({}, {"X": X.with_columns(price=pl.lit(np.nan))}, "X: column 'price', row 1: nan is not a finite number"),
    ({}, {"X": as_pandas(X.with_columns(price=pl.lit(np.inf)))}, "X: column 'price', row 1: inf is not"),
    ({}, {"X": pd.concat([as_pandas(X)] * 2, axis=1)}, "X: two columns have the same name; rename one"),
    ({}, {"X": {"a": [1, 2], "b": [1]}}, "frame: not columns of equal length"),
    ({}, {"sample_weight": -np.ones(300)}, "sample_weight: row 1 is negative; give 0 or more"),
    ({}, {"sample_weight": 1.0 - Y}, "sample_weight: only one class has rows of positive weight"),
    ({}, {"eval_set": X}, "eval_set: give one pair (X, y)"),
    ({}, {"eval_set": (X, Y * 0)}, "eval_set: its y must hold both classes [0, 1] and no other"),
    ({}, {"eval_set": (X, Y * 2)}, "eval_set: its y must hold both classes [0, 1] and no other"),
    ({"train_settings": {**QUICK, "lr": 1e38, "clip_norm": 1e38}, "model": "fm"},
     {}, "nothing was learnt: the loss became nan at step 2 of epoch 1; lower train.lr"),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "arguments", "message"), BAD, ids=[m[:40] for *_, m in BAD])
def test_errors_are_one_sentence(parameters, arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        quick(**parameters).fit(**{"X": X, "y": Y, **arguments})


def test_prediction_wants_a_fit_and_its_columns():
    for method in ("predict", "predict_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(quick(), method)(X)
    with pytest.raises(NotFittedError):
        quick().save("never")
    ours = quick().fit(X, Y)
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        ours.predict(X.select(reversed(X.columns)))
    with pytest.raises(ValueError, match="Feature names seen at fit time, yet now missing"):
        ours.predict(X.drop("price"))


def test_a_failed_fit_leaves_nothing_to_predict_with():
    ours = quick().fit(X, Y)
    with pytest.raises(InputError):
        ours.fit(X[:30], Y[:30] * 0)
    with pytest.raises(NotFittedError):
        ours.predict(X)


def test_a_useless_fit_is_told():
    with pytest.warns(ConvergenceWarning, match="every row the same score"):
        quick(model="lr").fit({"constant": ["a"] * 40}, np.arange(40) % 2)
