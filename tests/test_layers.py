"""The packages import only what docs/architecture.md allows them."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("search_spaces", "nas", "trainers", "launch")
_NAS = {"pydantic", "pydantic_core", "yaml", "torch", "numpy", "filelock"}
_TRAINERS = _NAS | {"torchvision", "PIL", "safetensors"}
MAY_IMPORT = {
    "search_spaces": {"pydantic", "yaml"},
    "nas": _NAS,
    "nas.operators.exports": _NAS | {"onnxruntime"},
    "nas.search": _NAS | {"optuna", "threadpoolctl"},
    "trainers": _TRAINERS,
    "trainers.weights": _TRAINERS | {"timm"},
    "launch": _TRAINERS | {"optuna", "ray", "tensorboard", "typer", "rich", "matplotlib", "plotly", "captum"},
}
"""What is neither Python's own nor one of the packages. The longest name that fits a module decides."""

MODULES = sorted(path for layer in LAYERS for path in (ROOT / layer).rglob("*.py"))


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(source: str, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, imported module) of every import, including those inside functions."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=origin, level=0):
                assert origin is not None
                yield node.lineno, origin
            case ast.ImportFrom(module=origin, level=level):
                parents = module.split(".")[: None if is_package and level == 1 else -(level - is_package)]
                yield node.lineno, ".".join([*parents, *filter(None, [origin])])
            case ast.Call(func=ast.Name(id="import_module" | "__import__"), args=[ast.Constant(value=str(name)), *_]):
                yield node.lineno, name
            case ast.Call(func=ast.Attribute(attr="import_module"), args=[ast.Constant(value=str(name)), *_]):
                yield node.lineno, name


def _forbidden(source: str, module: str, *, is_package: bool = False) -> list[str]:
    layer = module.partition(".")[0]
    allowed = MAY_IMPORT[max((name for name in MAY_IMPORT if f"{module}.".startswith(f"{name}.")), key=len)]
    allowed = allowed | sys.stdlib_module_names | set(LAYERS[: LAYERS.index(layer) + 1])
    return [
        f"line {line}: {module} imports {name}"
        for line, name in _imports(source, module, is_package=is_package)
        if name.partition(".")[0] not in allowed
    ]


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_a_module_imports_only_what_its_layer_may(path: Path) -> None:
    assert _forbidden(path.read_text(), _name(path), is_package=path.name == "__init__.py") == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("search_spaces.space", "import torch"),
        ("search_spaces.space", "from optuna.trial import Trial"),
        ("search_spaces.space", "def f():\n    import nas.builder"),
        ("search_spaces.space", "def f():\n    import importlib\n    importlib.import_module('ray.tune')"),
        ("nas.builder", "import optuna"),
        ("nas.search.engine", "import ray"),
        ("nas.search.engine", "import trainers"),
        ("trainers.data", "if x:\n    from launch import cli"),
    ],
)
def test_what_is_forbidden_is_found(module: str, source: str) -> None:
    assert len(_forbidden(source, module)) == 1


def _modules_named(source: str, module: str, *, is_package: bool, known: frozenset[str]) -> set[str]:
    """The modules of `known` that a module imports: ``from a import b`` imports `a.b` if that is a module, else `a`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            parents = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
            origin = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            names = [f"{origin}.{alias.name}" for alias in node.names] + [origin]
            names = [name for name in names[:-1] if name in known] or [origin]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name for name in names if name in known and name != module}
    return found


def _cycle(imports: dict[str, set[str]]) -> list[str]:
    """The modules of one import cycle, in order; empty if there is none."""
    done: set[str] = set()
    path: list[str] = []

    def visit(module: str) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        path.append(module)
        for other in sorted(imports.get(module, ())):
            if cycle := visit(other):
                return cycle
        path.pop()
        done.add(module)
        return []

    return next((cycle for module in sorted(imports) if (cycle := visit(module))), [])


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = frozenset(_name(path) for path in MODULES)
    imports = {
        _name(path): _modules_named(path.read_text(), _name(path), is_package=path.name == "__init__.py", known=known)
        for path in MODULES
    }
    assert sum(map(len, imports.values())) > len(imports)
    assert _cycle(imports) == []


def test_a_cycle_is_found() -> None:
    assert _cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert _cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
    known = frozenset({"launch", "launch.cli", "launch.cli.app"})
    assert _modules_named("from . import app", "launch.cli", is_package=True, known=known) == {"launch.cli.app"}
    assert _modules_named("def f():\n    from launch import cli", "x", is_package=False, known=known) == {"launch.cli"}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("search_spaces.space", "import yaml, random\nfrom . import grammar\nfrom .sites import Site"),
        ("nas.search.engine", "import optuna\nfrom search_spaces import Architecture\nfrom ..costs import count"),
        ("launch.cli", "import ray, trainers, nas, search_spaces"),
    ],
)
def test_allowed_imports_are_not_reported(module: str, source: str) -> None:
    assert _forbidden(source, module) == []


def test_the_documentation_lists_the_same_layers() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| `")]
    documented = {row[0].strip("`"): row[2] for row in rows if row[0].strip("`") in LAYERS}
    assert tuple(documented) == LAYERS
    assert {word.strip() for word in documented["search_spaces"].split(",")} == MAY_IMPORT["search_spaces"]


def _loaded_by(statement: str) -> set[str]:
    script = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(result.stdout.split())


def test_search_spaces_loads_no_framework() -> None:
    loaded = _loaded_by("from search_spaces import *")
    assert "pydantic" in loaded
    assert loaded.isdisjoint({"torch", "optuna", "ray", "numpy", "nas", "trainers", "launch"})


def test_importing_search_spaces_alone_does_not_even_load_pydantic() -> None:
    # pydantic and yaml are loaded with the first name that needs them, so the import takes less than 0.3 s.
    assert _loaded_by("import search_spaces").isdisjoint({"pydantic", "yaml"})


@pytest.mark.parametrize(
    ("module", "not_needed"),
    [
        ("launch.reports.status", {"torch", "torchvision", "ray", "optuna", "matplotlib", "tensorboard", "PIL"}),
        ("launch.cli.status", {"torch", "torchvision", "ray", "optuna", "matplotlib", "tensorboard", "PIL"}),
        ("launch.cli.report", {"torch", "torchvision", "ray", "optuna", "tensorboard"}),
    ],
)
def test_reading_a_run_loads_no_framework(module: str, not_needed: set[str]) -> None:
    loaded = _loaded_by(f"import {module}")
    assert {"pydantic", "nas", "trainers"} <= loaded
    assert loaded.isdisjoint(not_needed)


@pytest.mark.parametrize("package", [*LAYERS[:3], "nas.costs", "nas.search", "trainers.datasets"])
def test_a_package_has_all_the_names_that_it_lists_and_no_module_by_such_a_name(package: str) -> None:
    module = importlib.import_module(package)
    assert set(module.__all__) <= set(dir(module))
    assert all(getattr(module, name) is not None for name in module.__all__)
    # A module that is imported later sets its name in the package. `options` is imported with the package.
    modules = {path.stem for path in (ROOT / package.replace(".", "/")).iterdir()} - {"options"}
    assert modules.isdisjoint(module.__all__)
