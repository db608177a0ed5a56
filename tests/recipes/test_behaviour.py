"""The four boards of behaviour sequences from small files of the published form, against plain loops."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from data_prep import RECIPES, Expected, behaviour, run_recipe
from data_prep.__main__ import main
from recsys_zoo import cli, runs
from recsys_zoo.data import arrays
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.store import Prepared
from recsys_zoo.predictor import load

from .behaviours import CASES, DIM, KEYS, matrix, splits_of, vocabularies, write
from .test_criteo_x1 import note_of

boards = pytest.mark.parametrize("name", list(CASES))


@pytest.fixture
def prepare(tmp_path, monkeypatch, capsys):
    """Prepare a board's small files by the command, with their counts in place of the published ones."""

    def call(name: str) -> Prepared:
        case, files = CASES[name.removesuffix("_published")], splits_of(name)
        raw = write(tmp_path / f"raw {name}" / case.module.BOARD.folder, case)
        recipe = RECIPES[name]
        rows = {names: sum(len(files[n]) for n in names.split("+")) for names in recipe.expected.rows}
        ones = {
            names: sum(row[case.label] == "1" for n in names.split("+") for row in files[n]) for names in rows
        }
        size = sum(len(found) + 1 for found in vocabularies(case, files["train"]).values())
        expected = Expected(rows, ones, size, dict.fromkeys(case.vectors, len(KEYS)))
        monkeypatch.setitem(RECIPES, name, dataclasses.replace(recipe, expected=expected))
        for split in ("train", "test"):
            digest = hashlib.md5((raw / f"{split}.csv").read_bytes()).hexdigest()
            monkeypatch.setitem(case.module.BOARD.md5, split, digest)
        code = main([name, "--raw", str(raw.parent), "--out", str(tmp_path / name)])
        assert code == 0, capsys.readouterr().err
        return Prepared.open(tmp_path / name)

    return call


@pytest.mark.parametrize("protocol", ["", "_published"])
@boards
def test_every_field(name, protocol, prepare, monkeypatch):
    monkeypatch.setattr(behaviour, "_BLOCK", 64)
    monkeypatch.setattr(arrays, "_BLOCK", 16)
    data, case, files = prepare(name + protocol), CASES[name], splits_of(name + protocol)
    data.verify()
    assert data.schema.dataset == name + protocol
    known = vocabularies(case, files["train"])
    encoder, places = Encoder.open(data.folder / "encoding"), data.schema.id_slices()
    codes: dict[str, int] = {}
    for split in ("train", "valid", "test"):
        rows, found = files[split], data.split(split)
        assert found.labels[:, 0].tolist() == [float(row[case.label]) for row in rows]
        assert found.group.tolist() == [codes.setdefault(row[case.group], len(codes)) for row in rows]
        wanted = np.array([[float(row[c]) for c in case.numeric] for row in rows]).reshape(len(rows), -1)
        np.testing.assert_array_equal(found.numeric, wanted.astype(np.float32))
        for column, source in case.single.items():
            ids = found.ids[:, places[column].start]
            assert encoder.decode(column, ids) == [
                row[source] if row[source] in known[column] else None for row in rows
            ]
            assert (ids > 0).all()
        for column, (source, owner) in case.lists.items():
            for row, ids in zip(rows, found.ids[:, places[column]], strict=True):
                values = case.kept(row[source])
                first = case.length - len(values)  # padded in front
                assert (ids[:first] == 0).all()
                assert (ids[first:] > 0).all()
                wanted = [value if value in known[owner] else None for value in values]
                assert encoder.decode(column, ids[first:]) == wanted


@boards
def test_histories_are_empty_full_and_cut(name):
    """The files hold what the loops above must tell apart."""
    case = CASES[name]
    rows = [row for rows in case.files().values() for row in rows]
    texts = [row[source] for row in rows for source, _ in case.lists.values()]
    lengths = {len(case.kept(text)) for text in texts}
    assert {0, 1} <= lengths
    assert max(lengths) <= case.length
    if name in ("amazonelectronics_x1", "microvideo1.7m_x1"):
        assert case.length < max(len(text.split("^")) for text in texts)
    for rows in splits_of(name).values():
        assert {row[case.label] for row in rows} == {"0", "1"}


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.vectors])
def test_vectors_stand_in_the_order_of_the_vocabulary(name, prepare):
    data, case = prepare(name), CASES[name]
    assert list(data.vectors()) == list(case.vectors)
    by_key = {str(k): vector for k, vector in zip(KEYS, matrix().astype(np.float32), strict=True)}
    encoder = Encoder.open(data.folder / "encoding")
    for column, rows in data.vectors().items():
        texts = encoder.decode(column, np.arange(len(rows)))
        assert set(by_key) < set(texts) - {None}  # and videos without a vector
        for text, row in zip(texts, rows, strict=True):
            np.testing.assert_array_equal(row, by_key.get(text, np.zeros(DIM)))
    if name == "microvideo1.7m_x1":  # new videos are known by their vectors
        ids = data.split("test").ids[:, data.schema.id_slices()["item_id"].start]
        new = {row["item_id"] for row in splits_of(name)["test"]}
        assert {text for text in encoder.decode("item_id", ids) if text} == new & set(by_key)


@pytest.mark.parametrize("protocol", ["", "_published"])
@boards
def test_a_model_trains_on_it(name, protocol, prepare, tmp_path, monkeypatch, capsys):
    """From the command line: a few steps, frozen vectors stay, the row says what its epoch was picked on."""
    data, case = prepare(name + protocol), CASES[name]
    frozen = [f"--set=model.embedding.frozen={list(case.vectors)}".replace("'", '"')] if case.vectors else []
    command = [
        "train",
        "deepfm",
        str(data.folder),
        "--out",
        str(tmp_path / "run"),
        *frozen,
        "--set=train.epochs=1",
        "--set=train.batch_size=128",
        "--set=model.hidden=[8]",
        f"--set=model.embedding.dim={DIM}",
    ]
    monkeypatch.setattr("sys.argv", ["recsys-zoo", *command])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code, capsys.readouterr().err
    row = runs.read_row(tmp_path / "run")
    assert row.status == "done"
    assert row.selection == ("test" if protocol else "valid")
    assert row.note == note_of(data)
    assert row.note.startswith("valid is test.csv: the epoch is picked on test" if protocol else "valid is ")
    assert "test.gauc" in row.metrics
    trained = load(tmp_path / "run").model.embedding
    for column in case.vectors:
        np.testing.assert_array_equal(trained.matrix(column).detach(), data.vectors()[column])


def test_published_counts():
    totals = {
        "amazonelectronics_x1": 2_993_570,
        "taobaoad_x1": 25_029_426,
        "kuaivideo_x1": 13_661_383,
        "microvideo1.7m_x1": 12_737_617,
    }
    for name, total in totals.items():
        own, published = RECIPES[name].expected, RECIPES[f"{name}_published"].expected
        assert sum(own.rows.values()) == total
        assert published.rows["train"] + published.rows["test"] == total
        assert published.rows["valid"] == published.rows["test"] == own.rows["test"]
    assert RECIPES["amazonelectronics_x1"].expected.positives == {"train+valid": 1_304_382, "test": 192_403}
    assert RECIPES["amazonelectronics_x1_published"].expected.table_size == 63_001 + 801 + 2
    assert RECIPES["microvideo1.7m_x1_published"].expected.table_size == 10_986 + 1_704_880 + 512 + 3


def test_notes_name_the_rule_and_other_files(tmp_path):
    case = CASES["amazonelectronics_x1"]
    raw, said = write(tmp_path / "raw", case), []
    recipe = dataclasses.replace(RECIPES["amazonelectronics_x1"], expected=Expected({}, {}))
    data = run_recipe(recipe, raw, tmp_path / "out", say=said.append)
    assert note_of(data) == (
        "valid is 5 % of the users of train.csv, by the hash of user_id; AmazonElectronics_x1 has no "
        "validation file; train is not the published file; test is not the published file"
    )
    assert f"note: {note_of(data)}" in said[-1]


def wrong(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


AMAZON, TAOBAO, KUAI, MICRO = CASES


@pytest.mark.parametrize(
    ("name", "file", "damage", "sentence"),
    [
        (TAOBAO, "test.csv", None, "has no train.csv and test.csv; get TaobaoAd_x1.zip from https://"),
        (TAOBAO, "train.csv", ("brand_his", "brands"), "train.csv: no column named 'brand_his'"),
        (KUAI, "train.csv", ("timestamp", "time"), "train.csv: no column named 'timestamp'"),
        (
            KUAI,
            "train.csv",
            ("\n0,", "\n,"),
            "train.csv: column 'timestamp', row 1: no value; get KuaiVideo_x1",
        ),
        (KUAI, "train.csv", ("\n0,", "\nnow,"), "column 'timestamp', row 1: 'now' is neither a number nor"),
        (KUAI, "item_visual_emb_dim64.h5", None, "item_visual_emb_dim64.h5: no such file; get KuaiVideo_x1"),
        (AMAZON, "train.csv", None, "has no train.csv and test.csv; get AmazonElectronics_x1.zip"),
        (
            AMAZON,
            "",
            None,
            "rows of train+valid 228 instead of 2,608,764, rows of test 120 instead of 384,806, "
            "positives of train+valid 114 instead of 1,304,382, positives of test 60 instead",
        ),
        (MICRO, "", None, "vectors of item_id 83 instead of 1,704,880; get MicroVideo1.7M_x1.zip"),
    ],
)
def test_wrong_files_are_one_sentence(name, file, damage, sentence, tmp_path, capsys):
    raw = write(tmp_path / "raw", CASES[name])
    if damage:
        (raw / file).write_text(wrong((raw / file).read_text(), *damage))
    elif file:
        (raw / file).unlink()
    assert main([name, "--raw", str(raw), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["raw"]
