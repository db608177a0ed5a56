"""The law of layers: a module imports only from lower layers, or from its own package in the same layer."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "recsys_zoo"
LAYERS = [
    {"errors", "config", "schema", "batch", "card", "registry", "stage", "files"},
    {"nn", "losses", "metrics", "data"},
    {"models"},
    {"tasks"},
    {"train"},
    {"zoo", "predictor", "board"},
    {"runs", "catalog", "launch", "display", "demo", "cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = {"sklearn", "tensorboard", "matplotlib", "jinja2", "pandas", "rich", "onnx", "optuna"}
HEAVY |= {"torch_geometric", "transformers", "faiss"}
WITHOUT_POLARS = ("nn", "losses", "metrics", "models", "tasks", "train", "data/store.py", "zoo.py")
MODULES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py"))


def area(path: Path) -> str:
    """The sub-package of a file, or the name of a top-level module."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imported(path: Path) -> list[tuple[str, bool]]:
    """Absolute names of everything a file imports, and whether at module level."""
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    top = set(map(id, tree.body))
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(alias.name, id(node) in top) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["recsys_zoo", *path.parts[:-1]]
            module = node.module or ""
            if node.level:
                module = ".".join([*base[: len(base) - node.level + 1], *([module] if module else [])])
            if module == "recsys_zoo":
                names += [(f"recsys_zoo.{alias.name}", id(node) in top) for alias in node.names]
            else:
                names.append((module, id(node) in top))
    return names


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_go_downwards(path):
    if path == Path("__init__.py"):
        return
    own = area(path)
    assert own in LEVEL, f"{path}: give {own!r} a layer"
    for name, _ in imported(path):
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
        if str(path).startswith(WITHOUT_POLARS):
            assert package not in ("polars", "pandas", "faiss"), f"{path} imports {name}"
        assert package != "data_prep" or path == Path("catalog.py"), f"{path} knows public data sets"


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_modules_are_found_by_name_in_zoo_alone(path):
    tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
    names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    attributes = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    assert not names & {"eval", "exec", "pickle"}
    assert path == Path("zoo.py") or not (names | attributes) & {"import_module", "__import__"}


def test_the_law_can_fail(tmp_path, monkeypatch):
    bad = tmp_path / "nn" / "bad.py"
    bad.parent.mkdir()
    bad.write_text("def f():\n    from ..train.trainer import Trainer\n    return Trainer\n")
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    assert imported(Path("nn/bad.py")) == [("recsys_zoo.train.trainer", False)]
    with pytest.raises(AssertionError, match="imports recsys_zoo"):
        test_imports_go_downwards(Path("nn/bad.py"))


def test_nothing_in_the_package_names_a_public_data_set():
    for path in MODULES:
        text = (PACKAGE / path).read_text(encoding="utf-8")
        for name in ("frappe_x1", "movielens_1m", "criteo_x"):
            code = [line for line in text.splitlines() if name in line and "board=" not in line]
            prose = ("example", '"""', "source=", "Names like", "RECIPE", "recipe")
            assert all(any(word in line for word in prose) for line in code), (path, code)
