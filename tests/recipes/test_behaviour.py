"""The four boards of behaviour sequences from small files of the published form, against plain loops."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
import pytest

from data_prep import (
    RECIPES,
    Expected,
    amazonelectronics_x1,
    behaviour,
    hdf5,
    kuaivideo_x1,
    microvideo17m_x1,
    run_recipe,
    taobaoad_x1,
)
from data_prep.__main__ import main
from recsys_zoo import cli, runs
from recsys_zoo.data.encode import Encoder
from recsys_zoo.data.store import Prepared

from .test_criteo_x1 import note_of

DIM = 4
Row = dict[str, str]
Files = dict[str, list[Row]]


def walk(rng: np.random.Generator, values: int, most: int) -> list[str]:
    """A history, which may be empty."""
    return [str(v) for v in rng.zipf(1.5, rng.integers(0, most + 1)) % values]


def amazon(rng: np.random.Generator) -> Files:
    """Every user has one row of each label in test, and histories longer than 100 in both files."""
    files: Files = {"train": [], "test": []}
    for user in range(60):
        for name, steps in (("train", rng.integers(1, 4)), ("test", 1)):
            for step in range(steps):
                items = walk(rng, 30, 130 if user % 7 == 0 else 5) if user + step else []
                for label in ("1", "0"):
                    item = int(rng.zipf(1.5) % 40)
                    categories = [str(int(i) % 5) for i in items]
                    files[name].append({
                        "label": label, "user_id": str(user), "item_id": str(item), "cate_id": str(item % 5),
                        "item_history": "^".join(items), "cate_history": "^".join(categories)})
    rng.shuffle(files["train"])
    return files


def taobao(rng: np.random.Generator) -> Files:
    """Zeros for missing profiles, prices as pandas writes them, actions 1 to 4."""
    files: Files = {}
    for name, rows in (("train", 400), ("test", 60)):
        files[name] = [{
            "clk": str(int(k % 3 == 0)), "btag_his": "^".join(str(1 + int(v) % 4) for v in walk(rng, 9, 50)),
            "cate_his": "^".join(walk(rng, 30, 50)), "brand_his": "^".join(walk(rng, 40, 8)),
            "userid": str(rng.integers(0, 30)), **{c: str(rng.integers(0, 4)) for c in taobaoad_x1.USER[1:]},
            "adgroup_id": str(rng.integers(0, 50)), "cate_id": str(rng.integers(0, 12)),
            "campaign_id": str(rng.zipf(1.5) % 20), "customer": str(rng.zipf(1.5) % 20),
            "brand": str(rng.integers(0, 60)), "price": f"{rng.integers(1, 900) / 10}",
            "pid": f"430548_100{rng.integers(0, 2)}", "btag": "1"} for k in range(rows)]
    return files


def kuai(rng: np.random.Generator) -> Files:
    """Sorted by time, which has ties; histories are the user's first videos."""
    files: Files = {}
    for name, rows in (("train", 500), ("test", 60)):
        times = np.sort(rng.integers(0, 90, rows))
        files[name] = [{
            "timestamp": str(t), "user_id": str(rng.integers(0, 6)), "item_id": str(rng.zipf(1.3) % 50),
            "is_click": str(int(k % 3 == 0)), "is_like": "0", "is_follow": "0",
            "pos_items": "^".join(walk(rng, 60, 100)), "neg_items": "^".join(walk(rng, 60, 12))}
            for k, t in enumerate(times)]
    return files


def micro(rng: np.random.Generator) -> Files:
    """Sorted by user and time; the videos of test are new; up to 128 clicks, of which 100 are kept."""
    files: Files = {}
    for name, rows, first in (("train", 500, 0), ("test", 60, 50)):
        users, times = np.sort(rng.integers(0, 6, rows)), rng.integers(1000, 9000, rows)
        files[name] = []
        for k, user in enumerate(users):
            items, item = walk(rng, 45, 128 if k % 9 == 0 else 6), first + int(rng.integers(0, 40))
            files[name].append({
                "user_id": str(user), "item_id": str(item), "cate_id": str(item % 7),
                "is_click": str(int(k % 3 == 0)), "timestamp": str(times[k]),
                "clicked_items": "^".join(items),
                "clicked_categories": "^".join(str(int(i) % 7) for i in items)})
    return files


def fnv(text: str) -> float:
    """The number in [0, 1) of a text, from the definition of the hash."""
    state = 0xCBF29CE484222325
    for byte in text.encode():
        state = (state ^ byte) * 0x100000001B3 % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return ((state ^ state >> 31) >> 11) / 2**53


def amazon_valid(rows: list[Row]) -> set[int]:
    return {k for k, row in enumerate(rows) if fnv(f"amazonelectronics_x1\x1f{row['user_id']}\x1f") >= 0.95}


def taobao_valid(rows: list[Row]) -> set[int]:
    return {k for k in range(len(rows)) if fnv(f"taobaoad_x1\x1f{k}\x1f") >= 0.9}


def latest_valid(rows: list[Row]) -> set[int]:
    """The latest twentieth of each user, rounded down, later lines last among equal times."""
    held: set[int] = set()
    for user in {row["user_id"] for row in rows}:
        own = sorted((float(row["timestamp"]), k) for k, row in enumerate(rows) if row["user_id"] == user)
        held |= {k for _, k in own[len(own) - len(own) // 20:]}
    return held


@dataclass(frozen=True)
class Case:
    """One board as the test understands it: what is read where, written by hand from the published files."""

    module: object
    make: object
    valid: object
    label: str
    group: str
    single: dict[str, str]  # column -> source
    lists: dict[str, tuple[str, str]]  # column -> (source, owner of the vocabulary)
    length: int
    head: bool = False  # the first values are kept
    min_count: int = 1
    numeric: tuple[str, ...] = ()
    vectors: dict[str, str] = field(default_factory=dict)  # column -> file

    def files(self) -> Files:
        return self.make(np.random.default_rng(5))

    def kept(self, text: str) -> list[str]:
        values = text.split("^") if text else []
        return values[:self.length] if self.head else values[-self.length:]


def alike(names: tuple[str, ...] | list[str]) -> dict[str, str]:
    return {name: name for name in names}


CASES = {
    "amazonelectronics_x1": Case(
        amazonelectronics_x1, amazon, amazon_valid, "label", "user_id", alike(["item_id", "cate_id"]),
        {"item_history": ("item_history", "item_id"), "cate_history": ("cate_history", "cate_id")}, 100,
        head=True),
    "taobaoad_x1": Case(
        taobaoad_x1, taobao, taobao_valid, "clk", "userid",
        alike([*taobaoad_x1.USER, *taobaoad_x1.ITEM, "pid", "btag"]),
        {"cate_his": ("cate_his", "cate_id"), "brand_his": ("brand_his", "brand"),
         "btag_his": ("btag_his", "btag")}, 50, min_count=10, numeric=("price",)),
    "kuaivideo_x1": Case(
        kuaivideo_x1, kuai, latest_valid, "is_click", "user_id",
        {**alike(["user_id", "item_id"]), "item_emb": "item_id"},
        {"pos_items": ("pos_items", "item_id"), "neg_items": ("neg_items", "item_id"),
         "pos_items_emb": ("pos_items", "item_emb"), "neg_items_emb": ("neg_items", "item_emb")}, 100,
        min_count=10, vectors={"item_emb": "item_visual_emb_dim64.h5"}),
    "microvideo1.7m_x1": Case(
        microvideo17m_x1, micro, latest_valid, "is_click", "user_id",
        alike(["user_id", "item_id", "cate_id"]),
        {"clicked_items": ("clicked_items", "item_id"),
         "clicked_categories": ("clicked_categories", "cate_id")}, 100,
        vectors={"item_id": "item_image_emb_dim64.h5"}),
}
boards = pytest.mark.parametrize("name", list(CASES))
KEYS = [k for k in range(95) if k % 8 != 3]  # some videos have no vector, some vectors no video


def matrix() -> np.ndarray:
    return np.random.default_rng(8).normal(size=(len(KEYS), DIM))


def write(folder: Path, case: Case) -> Path:
    folder.mkdir(parents=True)
    for split, rows in case.files().items():
        with open(folder / f"{split}.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    for file in case.vectors.values():
        with h5py.File(folder / file, "w") as store:
            store["key"], store["value"] = KEYS, matrix()
    return folder


def splits_of(name: str) -> Files:
    """The rows of each split of a recipe, from the files and the rule alone."""
    case = CASES[name.removesuffix("_published")]
    files = case.files()
    if name.endswith("_published"):
        return {"train": files["train"], "valid": files["test"], "test": files["test"]}
    held = case.valid(files["train"])
    return {"train": [row for k, row in enumerate(files["train"]) if k not in held],
            "valid": [row for k, row in enumerate(files["train"]) if k in held], "test": files["test"]}


def vocabularies(case: Case, train: list[Row]) -> dict[str, set[str]]:
    counts = {column: Counter(row[source] for row in train) for column, source in case.single.items()}
    for source, owner in case.lists.values():
        counts[owner].update(value for row in train for value in case.kept(row[source]))
    least = dict.fromkeys(counts, case.min_count) | dict.fromkeys(case.vectors, 1)
    known = {column: {v for v, n in found.items() if n >= least[column]} for column, found in counts.items()}
    return known | {column: known[column] | {str(k) for k in KEYS} for column in case.vectors}


@pytest.fixture
def prepare(tmp_path, monkeypatch, capsys):
    """Prepare a board's small files by the command, with their counts in place of the published ones."""
    def call(name: str) -> Prepared:
        case, files = CASES[name.removesuffix("_published")], splits_of(name)
        raw = write(tmp_path / f"raw {name}" / case.module.BOARD.folder, case)
        recipe = RECIPES[name]
        rows = {names: sum(len(files[n]) for n in names.split("+")) for names in recipe.expected.rows}
        ones = {names: sum(row[case.label] == "1" for n in names.split("+") for row in files[n])
                for names in rows}
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
    monkeypatch.setattr(hdf5, "_BLOCK", 16)
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
                row[source] if row[source] in known[column] else None for row in rows]
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
    command = ["train", "deepfm", str(data.folder), "--out", str(tmp_path / "run"), *frozen,
               "--set=train.epochs=1", "--set=train.batch_size=128", "--set=model.hidden=[8]",
               f"--set=model.embedding.dim={DIM}"]
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
    from recsys_zoo.predictor import load
    trained = load(tmp_path / "run").model.embedding
    for column in case.vectors:
        np.testing.assert_array_equal(trained.matrix(column).detach(), data.vectors()[column])


def test_published_counts():
    totals = {"amazonelectronics_x1": 2_993_570, "taobaoad_x1": 25_029_426, "kuaivideo_x1": 13_661_383,
              "microvideo1.7m_x1": 12_737_617}
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
        "validation file; train is not the published file; test is not the published file")
    assert f"note: {note_of(data)}" in said[-1]


def wrong(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


AMAZON, TAOBAO, KUAI, MICRO = CASES


@pytest.mark.parametrize(("name", "file", "damage", "sentence"), [
    (TAOBAO, "test.csv", None, "has no train.csv and test.csv; get TaobaoAd_x1.zip from https://"),
    (TAOBAO, "train.csv", ("brand_his", "brands"), "train.csv: no column named 'brand_his'"),
    (KUAI, "train.csv", ("timestamp", "time"), "train.csv: no column named 'timestamp'"),
    (KUAI, "train.csv", ("\n0,", "\n,"), "train.csv: column 'timestamp', row 1: no value; get KuaiVideo_x1"),
    (KUAI, "train.csv", ("\n0,", "\nnow,"), "column 'timestamp', row 1: 'now' is neither a number nor"),
    (KUAI, "item_visual_emb_dim64.h5", None, "item_visual_emb_dim64.h5: no such file; get KuaiVideo_x1"),
    (AMAZON, "train.csv", None, "has no train.csv and test.csv; get AmazonElectronics_x1.zip"),
    (AMAZON, "", None, "rows of train+valid 228 instead of 2,608,764, rows of test 120 instead of 384,806, "
                       "positives of train+valid 114 instead of 1,304,382, positives of test 60 instead"),
    (MICRO, "", None, "vectors of item_id 83 instead of 1,704,880; get MicroVideo1.7M_x1.zip"),
])
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
