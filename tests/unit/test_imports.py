"""What importing costs, and what works without the optional packages."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest

MODULES = (
    "recsys_zoo.train.trainer, recsys_zoo.tasks.binary, recsys_zoo.metrics.bootstrap, recsys_zoo.data.store"
)

SCHEMA = """
dataset = "toy"
labels = ["y"]
split = {method = "hash"}
[[columns]]
name = "a"
[[columns]]
name = "n"
kind = "numeric"
[[columns]]
name = "b"
kind = "bag"
"""


def run(code: str) -> str:
    """Output of a program in a process of its own."""
    found = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout


def test_help_is_quick_and_leaves_torch_alone():
    code = """
        import sys, time
        sys.argv = ["recsys-zoo", "--help"]
        try:
            from recsys_zoo.cli import main
            main()
        except SystemExit:
            pass
        print("loaded:", sorted({"torch", "polars", "numpy", "sklearn"} & set(sys.modules)))
        print("seconds:", time.process_time())
    """
    outputs = [run(code) for _ in range(3)]
    assert "Usage" in outputs[0]
    assert "loaded: []" in outputs[0]
    # CPU seconds of the whole process, interpreter start included; wall time depends on what else runs
    assert min(float(out.rpartition("seconds:")[2]) for out in outputs) <= 0.5


def test_import_and_create_cost_little_more_than_torch():
    code = """
        import time
        began = time.process_time()
        import torch
        since = time.process_time()
        import recsys_zoo
        columns = (recsys_zoo.Column(name="a", kind="categorical", vocab_size=9),)
        recsys_zoo.create("autoint", recsys_zoo.Schema(dataset="d", labels=("y",), columns=columns))
        print((time.process_time() - since) / (since - began))
    """
    # a share, because busy and slow machines stretch both (some 0.17)
    assert min(float(run(code)) for _ in range(3)) <= 0.25


def test_benchmark_scripts_find_what_they_import_of_each_other():
    folders = [Path(__file__).parents[2] / "benchmarks" / name for name in ("speed", "peers", "")]
    trees = {path.stem: ast.parse(path.read_text()) for folder in folders for path in folder.glob("*.py")}
    known = {}
    for module, tree in trees.items():
        defined = [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
        assigned = [n for n in tree.body if isinstance(n, ast.Assign | ast.AnnAssign)]
        names = [n for a in assigned for n in ast.walk(a) if isinstance(n, ast.Name)]
        known[module] = {n.name for n in defined} | {n.id for n in names if isinstance(n.ctx, ast.Store)}
    asked = [
        (module, node.module, alias.name)
        for module, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in trees
        for alias in node.names
    ]
    assert ("ctr", "driver", "Worker") in asked
    assert [found for found in asked if found[2] not in known[found[1]]] == []


def test_models_trainer_and_metrics_do_without_optional_packages():
    missing = ("polars", "faiss", "sklearn", "tensorboard", "pandas", "jinja2", "rich", "torch_geometric")
    code = f"""
        import sys
        sys.modules.update(dict.fromkeys({missing!r}))  # any import of them now fails
        import torch
        import {MODULES}
        import recsys_zoo
        from recsys_zoo.batch import Inputs
        from recsys_zoo.itemlists import ItemLists
        columns = (recsys_zoo.Column(name="a", kind="categorical", vocab_size=9),)
        schema = recsys_zoo.Schema(dataset="d", labels=("y",), columns=columns)
        for name in recsys_zoo.list_models(family="ctr"):
            model = recsys_zoo.create(name, schema).eval()
            model(Inputs(torch.ones(2, 1, dtype=torch.int32), torch.zeros(2, 0), {{}}))
        columns += (recsys_zoo.Column(name="b", kind="categorical", vocab_size=9),)
        schema = recsys_zoo.Schema(dataset="d", labels=("y",), columns=columns, user="a", item="b")
        lists = ItemLists.of(torch.arange(7), torch.arange(7), 7, 7)
        for name in recsys_zoo.list_models(family="retrieval"):
            model = recsys_zoo.create(name, schema)
            if name != "slim" and not hasattr(model, "content"):  # these use scikit-learn
                model.fit(lists) if hasattr(model, "fit") else model.prepare(lists)
                model.scoring()(torch.arange(7))
        print("fine")
    """
    assert run(code).strip() == "fine"


def test_preparing_data_leaves_torch_alone(tmp_path):
    """By library and by command; tensors are made when they are asked for."""
    (tmp_path / "rows.csv").write_text("y,a,n,b\n" + "0,x,1,u|v\n1,z,2,v\n" * 20)
    (tmp_path / "schema.toml").write_text(SCHEMA)
    code = f"""
        import sys
        from pathlib import Path
        from recsys_zoo.data.prepare import prepare
        from recsys_zoo.data.spec import DataSpec
        folder = Path({str(tmp_path)!r})
        data = prepare([folder / "rows.csv"], DataSpec.load(folder / "schema.toml"), folder / "library")
        print(data.split("train").mib > 0, "torch" in sys.modules)
        from recsys_zoo.cli import main
        paths = [str(folder / name) for name in ("rows.csv", "schema.toml", "command")]
        sys.argv = ["recsys-zoo", "prepare", paths[0], "--schema", paths[1], "--out", paths[2]]
        try:
            main()
        except SystemExit as ended:
            print("code", ended.code)
        print("torch" in sys.modules)
        print(data.split("train").batch(slice(0, 2)).labels.dtype, "torch" in sys.modules)
    """
    lines = run(code).splitlines()
    assert lines[0] == "True False"
    assert lines[1].startswith("toy: 3 columns")
    assert lines[-2:] == ["False", "torch.float32 True"]
    written = [sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("library", "command")]
    assert written[0] == written[1]


def test_create_imports_one_model_file():
    code = """
        import sys, recsys_zoo
        columns = (recsys_zoo.Column(name="a", kind="categorical", vocab_size=9),)
        recsys_zoo.create("fm", recsys_zoo.Schema(dataset="d", labels=("y",), columns=columns))
        print(sorted(m for m in sys.modules if m.startswith("recsys_zoo.models.ctr.")))
    """
    assert run(code).strip() == "['recsys_zoo.models.ctr.fm']"


@pytest.mark.slow
def test_the_wheel_carries_recipes_tables_and_data_recipes(tmp_path):
    """So that `recsys-zoo train BOARD/MODEL` needs no path after `pip install`."""
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=root,
                   check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        inside = set(opened.namelist())
    wanted = {f"recsys_zoo/_catalog/{p.relative_to(root / 'benchmarks')}"
              for folder, pattern in (("recipes", "*/*.toml"), ("published", "*.csv"))
              for p in (root / "benchmarks" / folder).glob(pattern)}
    wanted |= {str(p.relative_to(root)) for package in ("recsys_zoo", "data_prep")
               for p in (root / package).rglob("*") if p.suffix in (".py", ".html", ".css", ".js")}
    assert any(name.endswith("recipes/frappe_x1/autoint.toml") for name in wanted)
    assert wanted <= inside, sorted(wanted - inside)
    assert not [name for name in inside if name.startswith(("tests/", "runs/")) or name.endswith(".pyc")]
