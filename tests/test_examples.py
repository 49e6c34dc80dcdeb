"""Runs the examples and checks what they promise."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def python(*arguments: object, **environment: str) -> str:
    command = [sys.executable, *map(str, arguments)]
    result = subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=250
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a script in this process, which has imported torch already; returns what it prints."""

    def run(script: Path, *arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_a_search_from_python_ends_with_a_front(run_here: Callable[..., str], tmp_path: Path) -> None:
    printed = run_here(EXAMPLES / "search.py", tmp_path / "run").splitlines()
    assert printed
    assert all(re.fullmatch(r"trial \d+: top-1 [01]\.\d{3} .+", line) for line in printed)
    assert any(line.endswith("plain") for line in printed)  # no network costs less


def test_a_custom_data_set_is_learnt(run_here: Callable[..., str]) -> None:
    assert float(run_here(EXAMPLES / "dataset.py").split()[-1]) > 0.9


SPACE = """
schema: 1
skeleton: {family: resnet, depth: 8, width: 8, image_size: 16, num_classes: 3}
placements: {"*": {refine: [none, {eca: {kernel: [3, 5]}}]}}
"""

CONTRACT = """
from nas.operators import operators
from nas.operators.testing import CHECKS, cases
from search_spaces import options
found = cases(options()["eca"])
for case in found:
    for check in ("shapes", "cost"):
        CHECKS[check](operators()["eca"], case.site, case.resolved)
print(len(found))
"""


def test_a_custom_operator_is_installed_and_known_everywhere(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLES / "operator", tmp_path / "source")
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index")
    python(*install, "--target", tmp_path / "site", tmp_path / "source", PIP_DISABLE_PIP_VERSION_CHECK="1")
    (tmp_path / "space.yaml").write_text(SPACE)
    with_it = f"{tmp_path / 'site'}{os.pathsep}{ROOT}"
    shown = json.loads(python("-m", "launch.cli", "show", tmp_path / "space.yaml", "--json", PYTHONPATH=with_it))
    assert shown["size"] == 3**3
    assert int(python("-c", CONTRACT, PYTHONPATH=with_it)) > 0
