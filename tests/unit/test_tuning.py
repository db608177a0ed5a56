"""Studies: what they choose, that they never see test, resumption, kills, several processes, failures."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from recsys_zoo import tuning
from recsys_zoo.board.rows import config_digest, read_rows
from recsys_zoo.data.store import Prepared
from recsys_zoo.errors import InputError
from recsys_zoo.files import locked
from recsys_zoo.launch import configure
from recsys_zoo.space import space_of
from recsys_zoo.train.trainer import Trainer
from recsys_zoo.trials import Trial

from .cli.conftest import folder, prepared, run  # noqa: F401
from .cli.shop import RECIPE

STUDY = Path("tuning/shop/deepfm")


@pytest.fixture
def recipes(prepared):  # noqa: F811
    """deepfm.toml and lr.toml beside a prepared shop."""
    Path("deepfm.toml").write_text(RECIPE.format(name="deepfm", epochs=2, more="hidden = [8]"))
    Path("lr.toml").write_text(RECIPE.format(name="lr", epochs=2, more=""))
    return prepared


def study(out: str = "tuning", trials: int = 5, recipe: str = "deepfm", **more) -> tuning.Study:
    cfg = configure(f"{recipe}.toml", "", more.pop("set_", []), more.pop("seed", 1))
    space = space_of(cfg, only=more.pop("only", ["model.hidden", "model.dropout", "train.lr"]))
    data, place = Prepared.open("data"), Path(out, "shop", recipe)
    return tuning.Study(f"{recipe}.toml", space, data, place, trials, **{"say": lambda line: None, **more})


def content(found: tuning.Study) -> list[dict]:
    """The record without what depends on the clock."""
    return [t.model_dump(exclude={"seconds", "when"}) for t in found.read()]


def chosen(found: tuning.Study) -> dict:
    return tomllib.loads((found.folder / "recipe.toml").read_text())


def test_a_model_on_data_of_a_name_belongs_to_the_board_of_that_name(recipes):
    assert configure("lr", "frappe_x1", [], 1).board == "frappe_x1"
    assert configure("lr", "frappe_x1", ["board=mine"], 1).board == "mine"
    assert [configure("lr", name, [], 1).board for name in ("data", "prepared/clicks")] == ["own", "own"]


def test_a_study_ends_with_a_recipe_whose_row_says_how_it_was_chosen(recipes, run):  # noqa: F811
    code, out, err = run("tune", "deepfm.toml", "lr.toml", "--trials", "3", "--seed", "4", "--curve", "c.svg")
    assert code == 0, err
    trials = [json.loads(line) for line in (STUDY / "trials.jsonl").read_text().splitlines()]
    assert [t["state"] for t in trials] == ["done"] * 3
    assert trials[0]["settings"]["model.hidden"] == [8]  # the recipe's own
    best = max(trials, key=lambda t: t["value"])
    recipe = chosen(study())
    assert (recipe["hparams"], recipe["trials"]) == ("valid", 3)
    assert recipe["train"]["lr"] == best["settings"]["train.lr"]
    assert "seed" not in recipe["train"]
    assert not (STUDY / "trials").exists()
    assert f"deepfm.toml: trial {best['number']} of 3 is chosen, valid auc {best['value']:.6f}" in out
    assert Path("c.svg").read_text().count("<polyline") == 2
    suite = tomllib.loads(Path("tuning/shop/suite.toml").read_text())
    assert suite == {"recipes": [str(STUDY / "recipe.toml"), "tuning/shop/lr/recipe.toml"],
                     "seeds": [5, 6, 7, 8, 9]}
    code, _, err = run("board", "run", STUDY / "recipe.toml", "--seeds", "4", "--rows", "rows.jsonl")
    assert code == 0, err
    (row,) = (row for row in read_rows(Path("rows.jsonl")) if row.role == "model")
    assert (row.hparams, row.trials) == ("valid", 3)
    assert row.choice == ("best valid auc of 3 trials, the recipe's own setting among them, "
                          "tpe from seed 4, median pruning")
    assert row.metrics["valid.auc"] == best["value"]  # with the seed of the study: the trial itself
    assert row.config_digest == config_digest({**row.config, "choice": ""})


def test_the_test_split_is_never_read(recipes, monkeypatch):
    read = Prepared.split

    def without_test(self, name):
        assert name != "test"
        return read(self, name)

    found = study(trials=2)
    for file in Path("data/test").iterdir():
        file.unlink()
    monkeypatch.setattr(Prepared, "split", without_test)
    assert found.run()
    assert chosen(found)["trials"] == 2


def test_data_without_valid_are_refused_and_leave_nothing(recipes, monkeypatch):
    found = study()
    monkeypatch.delitem(found.data._splits, "valid")
    with pytest.raises(InputError, match="no split named 'valid'"):
        found.run()
    assert not Path("tuning").exists()


def test_data_that_validate_on_test_are_refused(recipes, monkeypatch):
    monkeypatch.setattr(tuning, "valid_is_test", lambda data: True)
    with pytest.raises(InputError, match=r"deepfm\.toml: its data validate on the test rows"):
        study()


def test_an_interrupted_study_ends_as_an_undisturbed_one(recipes, monkeypatch):
    """Stopped at every second save of a training state, before and after it."""
    calm = study("calm", trials=8)
    assert calm.run()
    epochs = 0
    save = Trainer._save

    def interrupted(self):
        nonlocal epochs
        epochs += 1
        if epochs % 4 == 3:
            raise KeyboardInterrupt
        save(self)
        if epochs % 4 == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "_save", interrupted)
    stops = 0
    while True:
        try:
            assert study("rough", trials=8).run()
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 8
    assert content(study("rough")) == content(calm)
    assert chosen(study("rough")) == chosen(calm)


def test_more_trials_go_on_from_those_there_are(recipes):
    for trials in (2, 4, 3):
        assert study(trials=trials).run()
    assert study("calm", trials=4).run()
    assert content(study()) == content(study("calm"))
    assert chosen(study())["trials"] == 4


def test_pruning_ends_a_trial_that_lags_and_counts_it(recipes, monkeypatch):
    monkeypatch.setattr(tuning, "lags", lambda trials, number, monitor: number in (1, 2))
    found = study(trials=4)
    assert found.run()
    assert [t.state for t in found.read()] == ["done", "pruned", "pruned", "done"]
    assert [len(t.valid) for t in found.read()] == [2, 1, 1, 2]
    assert chosen(found)["choice"].endswith("median pruning, 2 pruned")
    assert study("none", trials=4, pruner="none").run()
    assert [t.state for t in study("none").read()] == ["done"] * 4


def test_settings_that_were_tried_are_not_trained_again_but_count(recipes, monkeypatch):
    said: list[str] = []
    found = study(trials=6, only=["model.hidden"], sampler="random", say=said.append)
    assert found.run()
    trials = found.read()
    again = [t for t in trials if t.same_as is not None]
    assert len(trials) == 6
    assert again  # six trials of five choices
    for t in again:
        first = trials[t.same_as]
        assert (t.value, t.settings, t.valid, t.seconds) == (first.value, first.settings, first.valid, 0)
        assert f"deepfm.toml trial {t.number}: the settings of trial {t.same_as}" in said


def test_a_trial_that_fails_is_recorded_with_its_reason(recipes):
    more = "attention_dim = 10\nheads = 5"
    Path("autoint.toml").write_text(RECIPE.format(name="autoint", epochs=1, more=more))
    found = study(recipe="autoint", trials=8, only=["model.heads"])
    assert found.run()
    trials = found.read()
    failed = [t for t in trials if t.state == "failed"]
    assert {t.settings["model.heads"] for t in failed} <= {4, 8}
    assert failed
    assert "is not divisible by heads" in failed[0].reason
    assert f"{len(failed)} failed" in chosen(found)["choice"]


def test_trouble_with_the_machine_is_no_fault_of_a_setting(recipes, monkeypatch):
    """A full disk ends the study; its trial is gone on with, and the choice is that of an undisturbed one."""
    whole = study("whole")
    assert whole.run()
    fit, left = Trainer.fit, [2]

    def disturbed(self, *args, **more):
        left[0] -= 1
        if left[0] < 0:
            raise InputError("state: No space left on device; free some space and try again")
        return fit(self, *args, **more)
    monkeypatch.setattr(Trainer, "fit", disturbed)
    found = study()
    with pytest.raises(InputError, match="No space left"):
        found.run()
    assert [t.state for t in found.read()] == ["done", "done", "running"]
    monkeypatch.setattr(Trainer, "fit", fit)
    assert found.run()
    assert content(found) == content(whole)


def test_the_value_of_a_trial_is_that_of_the_weights_it_ends_with(recipes):
    """Of two stages the last decides, although the first may have seen a better epoch."""
    stages = 'train.stages=[{name="search",epochs=6},{name="retrain",epochs=1,lr=1.0}]'
    found = study(trials=1, set_=[stages])
    assert found.run()
    (trial,) = found.read()
    assert len(trial.valid) == 7
    assert trial.value == trial.valid[-1]["auc"] != max(v["auc"] for v in trial.valid)


def test_dead_trials_are_recorded_and_without_a_finished_one_nothing_is_chosen(recipes, run):  # noqa: F811
    code, _, err = run("tune", "deepfm.toml", "lr.toml", "--set", "train.lr=1e30", "--trials", "2")
    assert code == 2
    assert err == ("error: tuning/shop/deepfm/trials.jsonl: no trial is done, so nothing was chosen; "
                   "the reasons stand there\n")
    assert Path("tuning/shop/lr/recipe.toml").is_file()  # the others are not lost by it
    trials = study().read()
    assert [t.state for t in trials] == ["dead"] * 2
    assert "lower train.lr" in trials[0].reason
    assert not (STUDY / "recipe.toml").exists()
    assert [math.isnan(value) for value in study().curve().values] == [True] * 2


def test_a_damaged_record_is_named(recipes):
    assert study(trials=1).run()
    with open(STUDY / "trials.jsonl", "a") as file:
        file.write('{"number": 1, "sett')
    with pytest.raises(InputError, match=r"trials\.jsonl, line 2: not JSON"):
        study(trials=2).run()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"sampler": "random"}, "another sampler"),
        ({"pruner": "none"}, "another pruner"),
        ({"only": ["train.lr"]}, "another space"),
        ({"set_": ["train.epochs=3"]}, "another recipe"),
        ({"seed": 2}, "another recipe"),
    ],
)
def test_a_study_goes_on_as_it_was_begun(recipes, more, said):
    assert study(trials=1).run()
    with pytest.raises(InputError, match=f"tuning/shop/deepfm: its trials were made with {said}"):
        study(trials=2, **more).run()
    assert len(study().read()) == 1


def test_a_study_of_other_data_is_refused(recipes, run):  # noqa: F811
    assert study(trials=1).run()
    lines = Path("shop.csv").read_text().splitlines(keepends=True)
    Path("shop.csv").write_text("".join(lines[:-3]))
    assert run("prepare", "shop.csv", "--schema", "shop.toml", "--out", "data")[0] == 0
    with pytest.raises(InputError, match="made with another data set"):
        study(trials=2).run()


def test_a_study_is_left_to_the_process_that_is_at_it(recipes, run):  # noqa: F811
    with locked(STUDY / "study"):
        code, out, _ = run("tune", "deepfm.toml", "lr.toml", "--trials", "1")
        assert code == 0
        assert "deepfm.toml: another process is at it; --join helps" in out
        assert not (STUDY / "trials.jsonl").exists()
        assert Path("tuning/shop/lr/recipe.toml").is_file()
        assert study(trials=2, share=True).run()
    assert len(study().read()) == 2


def test_a_trial_that_another_process_holds_is_left_to_it(recipes):
    found = study(trials=3, share=True)
    found.folder.mkdir(parents=True)
    begun = Trial(number=0, settings=found.space.own_values())
    found.file.write_text(begun.model_dump_json() + "\n")
    with locked(STUDY / "trials" / "0000"):
        assert not found.run()
    assert [t.state for t in found.read()] == ["running", "done", "done"]
    assert not (STUDY / "recipe.toml").exists()
    assert study(trials=3).run()  # the other one was killed
    assert [t.state for t in found.read()] == ["done"] * 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["deepfm"], "tune deepfm: name the data of a model, --data PREPARED_FOLDER"),
        (["nothing.toml"], "nothing.toml"),
        (["deepfm.toml", "--only", "model.drop"], "no setting to tune named 'model.drop'"),
        (["deepfm.toml", "--space", "none.toml"], "none.toml: no such file"),
        (["deepfm.toml", "--curve", "c.png"], "must end in .svg"),
        (["deepfm.toml", "--set", "train.lrr=1"], "train.lrr"),
    ],
)
def test_mistakes_are_one_sentence_before_anything_is_made(recipes, run, words, said):  # noqa: F811
    code, _, err = run("tune", *words)
    assert code == 2
    assert said in err
    assert len(err.splitlines()) == 1
    assert not Path("tuning").exists()


def test_without_optuna_one_sentence_says_what_to_install(recipes, run, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "optuna", None)
    code, _, err = run("tune", "lr.toml", "--trials", "2")
    assert code == 2
    assert err == "error: tuning needs optuna: pip install 'recsys-zoo[tune]'\n"


def test_a_dry_run_shows_the_tree_and_fixed_settings_are_not_in_it(recipes, run):  # noqa: F811
    code, out, _ = run("tune", "deepfm.toml", "--set", "train.lr=0.01", "--dry-run")
    assert code == 0
    assert "deepfm.toml: 6 settings\n" in out
    assert "    model.dropout " in out
    assert "train.lr" not in out
    assert not Path("tuning").exists()


def test_the_suites_of_the_benchmarks_can_be_tuned():
    files = sorted((Path(tuning.__file__).parents[1] / "benchmarks" / "suites").glob("*.toml"))
    tasks = tuning.plan([str(file) for file in files], "", [], 1)
    assert len({task.recipe for task in tasks}) >= 8
    assert all(space_of(task.cfg).tuned for task in tasks)


def test_a_model_is_tuned_on_data_of_its_own(recipes, run):  # noqa: F811
    words = ["tune", "fm", "--data", "data", "--set", "train.epochs=1", "--trials", "2"]
    code, _, err = run(*words)
    assert code == 0, err
    assert tomllib.loads(Path("tuning/own/fm/recipe.toml").read_text())["model"]["name"] == "fm"


def _start(out: str, *more: str) -> subprocess.Popen:
    words = ["tune", "deepfm.toml", "lr.toml", "--trials", "6", "--out", out, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(tuning.__file__).parents[1])}
    return subprocess.Popen([sys.executable, "-m", "recsys_zoo", *words], env=environment,
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_kills_at_random_leave_exactly_the_trials_of_an_undisturbed_study(recipes):
    """Two processes take a study each; ten times one of them is killed after some lines of its output."""
    for name, more in (("deepfm", "hidden = [8]"), ("lr", "")):
        Path(f"{name}.toml").write_text(RECIPE.format(name=name, epochs=15, more=more))
    calm = _start("calm")
    calm.communicate()
    assert calm.returncode == 0
    rng, killed = random.Random(3), 0
    workers = [_start("rough") for _ in range(2)]
    for _ in range(10):
        worker = workers.pop(rng.randrange(2))
        for _ in range(rng.randrange(1, 4)):
            worker.stdout.readline()
        worker.kill()
        worker.communicate()
        killed += worker.returncode == -signal.SIGKILL
        workers.append(_start("rough"))
    for worker in (*workers, _start("rough")):
        said, _ = worker.communicate()
        assert worker.returncode == 0, said
    for recipe in ("deepfm", "lr"):
        found, same = (study(out, recipe=recipe, only=[]) for out in ("rough", "calm"))
        assert content(found) == content(same)
        assert chosen(found) == chosen(same)
    assert killed > 5  # the others found nothing left to do


@pytest.mark.slow
def test_processes_that_share_a_study_lose_and_double_no_trial(recipes):
    workers = [_start("shared", "--join") for _ in range(3)]
    for worker in workers:
        said, _ = worker.communicate()
        assert worker.returncode == 0, said
    for recipe in ("deepfm", "lr"):
        trials = study("shared", recipe=recipe, only=[]).read()
        assert [t.number for t in trials] == list(range(6))
        assert {t.state for t in trials} <= {"done", "pruned"}
        assert chosen(study("shared", recipe=recipe, only=[]))["trials"] == 6
