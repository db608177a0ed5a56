"""The law of layers: a module imports only from lower layers, or from its own package in the same layer."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "recsys_zoo"
LAYERS = [
    {"errors", "config", "schema", "batch", "itemlists", "card", "registry", "stage", "files", "machine",
     "parallel"},
    {"nn", "losses", "metrics", "data"},
    {"models", "evaluation"},
    {"tasks"},
    {"train"},
    {"zoo", "predictor", "vectorindex", "ranker", "board"},
    {"importers"},
    {"runs", "references", "audit", "audit_ranking", "catalog", "launch", "suite", "display", "demo", "cli",
     "cli_board", "cli_rank", "cli_tune", "rankruns", "rankfiles", "rankgiven", "space", "trials", "tuning",
     "reproduce", "check", "estimator", "__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = {"sklearn", "tensorboard", "matplotlib", "jinja2", "pandas", "rich", "onnx", "optuna"}
HEAVY |= {"torch_geometric", "transformers", "faiss", "yaml", "h5py"}
WITHOUT_POLARS = ("nn/", "losses/", "metrics/", "evaluation/", "models/", "tasks/", "train/", "zoo.py")
WITHOUT_POLARS += ("data/store.py", "data/planted.py", "data/spec.py", "data/split.py")
MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))
RECIPES = sorted(p.relative_to(ROOT) for p in (ROOT / "data_prep").rglob("*.py"))


def area(path: Path) -> str:
    """The sub-package of a file, or the name of a top-level module."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def running(node: ast.AST, at_import: bool = True) -> Iterator[tuple[ast.AST, bool]]:
    """Every node below, and whether it runs when the module is imported (a block for type checkers never)."""
    for child in ast.iter_child_nodes(node):
        runs = at_import and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            runs = False
        yield child, runs
        yield from running(child, runs)


def imported(path: Path, package: str = "recsys_zoo") -> list[tuple[str, bool]]:
    """Absolute names of everything a file imports, and whether importing the file imports it too."""
    folder = PACKAGE if package == "recsys_zoo" else ROOT / package
    names = []
    for node, at_import in running(ast.parse((folder / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [(alias.name, at_import) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [package, *path.parts[:-1]]
            module = node.module or ""
            if node.level:
                module = ".".join([*base[: len(base) - node.level + 1], *([module] if module else [])])
            if module == package or module == "recsys_zoo":
                names += [(f"{module}.{alias.name}", at_import) for alias in node.names]
            else:
                names.append((module, at_import))
    return names


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_downwards(path):
    if path == Path("__init__.py"):
        return
    own = area(path)
    assert own in LEVEL, f"{path}: give {own!r} a layer"
    for name, _ in imported(path):
        assert name != "recsys_zoo", f"{path} imports the whole package"
        if not name.startswith("recsys_zoo."):
            continue
        other = name.split(".")[1]
        assert other in LEVEL, f"{path} imports {name}, which has no layer"
        inside = other == own or (len(path.parts) == 1 and (PACKAGE / f"{other}.py").is_file())
        assert LEVEL[other] < LEVEL[own] or (LEVEL[other] == LEVEL[own] and inside), f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_heavy_packages_are_imported_inside_functions(path):
    for name, at_top in imported(path):
        package = name.split(".")[0]
        assert not (at_top and package in HEAVY and path != Path("board/table.py")), f"{path} imports {name}"
        if path.as_posix().startswith(WITHOUT_POLARS):
            assert package not in ("polars", "pandas", "faiss"), f"{path} imports {name}"
        if package == "polars" and at_top:
            assert path.parts[0] == "data", f"{path} imports {name} outside of a function"
        if LEVEL.get(area(path)) == 0:
            known = {"recsys_zoo", "pydantic", "torch", *sys.stdlib_module_names}
            assert package in known, f"{path} imports {name}"
        assert package != "data_prep" or path == Path("catalog.py"), f"{path} knows public data sets"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_are_found_by_name_in_zoo_alone(path):
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not names & {"eval", "exec", "pickle"}
    if path != Path("zoo.py"):
        assert not (names | attributes) & {"import_module", "__import__"}, path
        strange = [n for n, _ in imported(path) if n.split(".")[0] in ("importlib", "runpy", "pkgutil")]
        assert set(strange) <= {"importlib.metadata", "importlib.resources"}, f"{path} imports {strange}"


@pytest.mark.parametrize("path", RECIPES, ids=str)
def test_recipes_use_data_preparation_alone(path):
    allowed = LAYERS[0] | {"data"}
    for name, at_top in imported(path.relative_to("data_prep"), "data_prep"):
        package, _, rest = name.partition(".")
        assert package != "recsys_zoo" or rest.split(".")[0] in allowed, f"{path} imports {name}"
        assert not (at_top and package in HEAVY | {"polars", "torch", "numpy"}), f"{path} imports {name}"


@pytest.mark.parametrize(("place", "code", "law"), [
    ("nn/bad.py", "def f():\n    from ..train.trainer import Trainer\n    return Trainer\n", "downwards"),
    ("nn/bad.py", "from .. import models\n", "downwards"),
    ("nn/bad.py", "import recsys_zoo.metrics.binary\n", "downwards"),
    ("nn/bad.py", "import recsys_zoo\n", "downwards"),
    ("newcomer/bad.py", "", "downwards"),
    ("config.py", "from .zoo import create\n", "downwards"),
    ("nn/bad.py", "try:\n    import sklearn\nexcept ImportError:\n    pass\n", "heavy"),
    ("nn/bad.py", "class A:\n    import faiss\n", "heavy"),
    ("nn/bad.py", "def f():\n    import polars\n", "heavy"),
    ("data/store.py", "import polars as pl\n", "heavy"),
    ("runs.py", "import polars as pl\n", "heavy"),
    ("config.py", "import numpy\n", "heavy"),
    ("runs.py", "import data_prep\n", "heavy"),
    ("nn/bad.py", "from importlib import import_module\n", "by_name"),
    ("nn/bad.py", "import importlib as i\nf = i.import_module\n", "by_name"),
    ("nn/bad.py", "f = __import__('os')\n", "by_name"),
    ("nn/bad.py", "import runpy\n", "by_name"),
    ("nn/bad.py", "f = eval('1')\n", "by_name"),
])
def test_the_law_can_fail(tmp_path, monkeypatch, place, code, law):
    laws = {"downwards": test_imports_go_downwards,
            "heavy": test_heavy_packages_are_imported_inside_functions,
            "by_name": test_modules_are_found_by_name_in_zoo_alone}
    bad = tmp_path / place
    bad.parent.mkdir(exist_ok=True)
    (tmp_path / "zoo.py").touch()
    bad.write_text(code)
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    with pytest.raises(AssertionError):
        laws[law](Path(place))


def test_type_checkers_may_see_more(tmp_path, monkeypatch):
    (tmp_path / "bad.py").write_text("if TYPE_CHECKING:\n    import pandas\nimport torch\n")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert imported(Path("bad.py")) == [("pandas", False), ("torch", True)]


def test_nothing_in_the_package_names_a_public_data_set():
    for path in MODULES:
        text = (PACKAGE / path).read_text(encoding="utf-8")
        for name in ("frappe_x1", "movielens_1m", "criteo_x"):
            code = [line for line in text.splitlines() if name in line and "board=" not in line]
            prose = ("example", '"""', "source=", "Names like", "RECIPE", "recipe")
            assert all(any(word in line for word in prose) for line in code), (path, code)
