import json
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import cli
from launch.rundir.config import RunConfig
from launch.rundir.run import Run


@pytest.fixture
def two(make_run: Callable[..., Run], config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two finished runs, `one` and `two`, in the current folder; the second has another seed."""
    make_run("one")
    make_run("two", settings=config.model_copy(update={"search": config.search.model_copy(update={"seed": 5})}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_two_runs_side_by_side(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare", "one", "two", "--json", "-o", "both.html"]) == cli.SUCCESS
    found = json.loads(capsys.readouterr().out)
    assert [run["run"] for run in found["runs"]] == ["one", "two"]
    assert found["differing"] == {"search.seed": {"A": "0", "B": "5"}}
    assert all(effect["gains"].keys() <= {"A", "B"} for effect in found["effects"])
    page = (two / "both.html").read_text()
    assert cli.run(["compare", "one", "two"]) == cli.SUCCESS
    printed = " ".join(capsys.readouterr().out.split())
    for sentence in found["sentences"]:
        assert sentence in page
        assert sentence in printed


def test_what_cannot_be_compared_writes_nothing(two: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (two / "empty").mkdir()
    for runs, told in (
        (["one"], "nas: 1 run given: compare 2 to 8 runs"),
        (["one", "./one"], "nas: one is given twice: name each run once"),
        (["one", "empty"], "empty holds no run: journal.log is not there"),
    ):
        assert cli.run(["compare", *runs, "-o", "page.html"]) == cli.USER_ERROR
        assert told in capsys.readouterr().err
        assert not (two / "page.html").exists()
