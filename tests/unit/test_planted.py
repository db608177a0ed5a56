"""The planted problem: its law, its ceiling, and that its file and its in-memory form are the same data."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from recsys_zoo.data import planted
from recsys_zoo.data.prepare import prepare
from recsys_zoo.errors import InputError

ROWS = 60_000


@pytest.fixture(scope="module")
def problem() -> planted.Planted:
    return planted.plant(ROWS, seed=3)


def logit(problem: planted.Planted) -> np.ndarray:
    return np.log(problem.probability / (1 - problem.probability))


def cell_means(values: np.ndarray, number: int, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of the target in each of `number` cells, and the share of rows there."""
    counts = np.bincount(values, minlength=number)
    return np.bincount(values, target, number) / np.maximum(counts, 1), counts / len(values)


def pair_deviation(problem: planted.Planted, first: str, second: str) -> tuple[float, float]:
    """Deviation of what a pair of columns adds to the logit beyond its two columns alone, and its noise.

    The noise is what finitely many rows would show of a pair that adds nothing.
    """
    a, b = problem.values[first], problem.values[second]
    width = b.max() + 1
    means, share = cell_means(a * width + b, (a.max() + 1) * width, logit(problem))
    means, share = means.reshape(-1, width), share.reshape(-1, width)
    rows, columns = share.sum(1), share.sum(0)
    centred = means - (means @ columns)[:, None] - rows @ means + rows @ means @ columns
    noise = logit(problem).std() * np.sqrt(a.max() * b.max() / ROWS)
    return float(np.sqrt((share * centred**2).sum())), float(noise)


def test_the_seed_fixes_everything():
    one, same, other = planted.plant(500, 7), planted.plant(500, 7), planted.plant(500, 8)
    for name in one.values:
        np.testing.assert_array_equal(one.values[name], same.values[name])
    np.testing.assert_array_equal(one.probability, same.probability)
    np.testing.assert_array_equal(one.labels, same.labels)
    np.testing.assert_array_equal(one.split, same.split)
    assert (one.labels != other.labels).any()
    assert planted.planted_ctr(500, 7).data_digest == one.prepared().data_digest
    assert planted.planted_ctr(500, 7).data_digest != other.prepared().data_digest


def test_effects_do_not_depend_on_the_number_of_rows(monkeypatch):
    # two values a column: both problems meet nearly all of the 1,024 combinations, and must agree on each
    monkeypatch.setattr(planted, "COLUMNS", tuple(c._replace(size=2) for c in planted.COLUMNS))
    laws = []
    for rows in (3000, 5000):
        drawn = planted.plant(rows, seed=2)
        laws.append(dict(zip(zip(*drawn.values.values(), strict=True), drawn.probability, strict=True)))
    both = laws[0].keys() & laws[1].keys()
    assert len(both) > 500
    assert all(laws[0][combination] == laws[1][combination] for combination in both)


@pytest.mark.parametrize("column", planted.COLUMNS, ids=lambda column: column.name)
def test_popularity_is_zipf(problem, column):
    counts = np.bincount(problem.values[column.name], minlength=column.size)
    weights = np.array([1 / (k + 1) ** column.zipf for k in range(column.size)])
    expected = ROWS * weights / weights.sum()
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert len(counts) == column.size
    # chi-square with n-1 degrees has mean n-1 and variance 2(n-1): five deviations
    assert abs(chi2 - (column.size - 1)) < 5 * np.sqrt(2 * (column.size - 1))


def test_labels_follow_the_probabilities(problem):
    for tenth in np.array_split(np.argsort(problem.probability), 10):
        p = problem.probability[tenth]
        error = np.sqrt((p * (1 - p)).sum()) / len(p)
        assert abs(problem.labels[tenth].mean() - p.mean()) < 4 * error


def test_splits_are_independent_draws(problem):
    for name, share in planted.SPLITS.items():
        rows = problem.split == name
        assert abs(rows.mean() - share) < 5 * np.sqrt(share * (1 - share) / ROWS)
        assert problem.labels[rows].mean() == pytest.approx(problem.labels.mean(), abs=0.03)


@pytest.mark.parametrize("pair", [("device", "hour"), ("hour", "weekday"), ("category", "page")])
def test_planted_pairs_carry_their_deviation(problem, pair):
    found, noise = pair_deviation(problem, *pair)
    assert found == pytest.approx(np.hypot(planted.PAIRS[pair], noise), abs=0.05)


@pytest.mark.parametrize("pair", [("device", "weekday"), ("age", "page"), ("age", "hour")])
def test_other_pairs_carry_none(problem, pair):
    assert pair not in planted.PAIRS
    found, noise = pair_deviation(problem, *pair)
    assert found < 1.3 * noise


@pytest.mark.parametrize("name", ["item", "category", "device"])
def test_single_effects_have_their_deviation(problem, name):
    column = next(c for c in planted.COLUMNS if c.name == name)
    means, share = cell_means(problem.values[name], column.size, logit(problem))
    found = np.sqrt(share @ (means - share @ means) ** 2)
    assert found == pytest.approx(column.deviation, abs=0.06)


def test_ceiling_is_what_scikit_learn_finds(problem):
    for name in planted.SPLITS:
        rows = problem.split == name
        ceiling = problem.ceiling(name)
        truth, labels = problem.probability[rows], problem.labels[rows]
        assert ceiling.auc == pytest.approx(roc_auc_score(labels, truth), abs=1e-12)
        assert ceiling.logloss == pytest.approx(log_loss(labels, truth), abs=1e-12)


def test_rank_auc_by_hand():
    # pairs (positive, negative): 3>1, 3>2, 2=2 (half), 2>1 -> 3.5 of 4
    assert planted.rank_auc(np.array([3.0, 2.0, 1.0, 2.0]), np.array([1, 1, 0, 0])) == 3.5 / 4


def test_ceiling_is_above_all_that_single_effects_know(problem):
    """Even the true effects of all columns, added up, stay far below: the rest is in the pairs."""
    test = problem.split == "test"
    ceiling, target, added = problem.ceiling().auc, logit(problem), np.zeros(ROWS)
    for column in planted.COLUMNS:
        means, _ = cell_means(problem.values[column.name], column.size, target)
        alone = means[problem.values[column.name]]
        added += alone
        assert planted.rank_auc(alone[test], problem.labels[test]) < ceiling - 0.15
    assert 0.6 < planted.rank_auc(added[test], problem.labels[test]) < ceiling - 0.1


def test_file_and_memory_are_the_same_data(tmp_path):
    drawn = planted.plant(3000, seed=5)
    drawn.write_csv(tmp_path / "clicks.csv")
    from_file = prepare([tmp_path / "clicks.csv"], drawn.spec(), tmp_path / "prepared")
    in_memory = drawn.prepared()
    assert from_file.schema == in_memory.schema
    assert from_file.names == in_memory.names == ("train", "valid", "test")
    assert (in_memory.split("test").ids == 1).any()  # values unseen in training are among them
    for name in in_memory.names:
        one, two = from_file.split(name), in_memory.split(name)
        np.testing.assert_array_equal(one.ids, two.ids)
        np.testing.assert_array_equal(one.labels, two.labels)
        np.testing.assert_array_equal(one.group, two.group)
        assert len(one) == (drawn.split == name).sum()


def test_raw_file_is_plain_text(tmp_path):
    drawn = planted.plant(100, seed=1)
    drawn.write_csv(tmp_path / "clicks.csv")
    header, first, *_ = (tmp_path / "clicks.csv").read_text().splitlines()
    assert header == "click,user,item,age,city,category,brand,device,hour,weekday,page,split"
    expected = [str(drawn.labels[0]), *(f"{n}{v[0]}" for n, v in drawn.values.items()), drawn.split[0]]
    assert first.split(",") == expected


def test_too_few_rows():
    with pytest.raises(InputError, match="rows=5: a planted problem needs at least 100"):
        planted.plant(5)
