"""`nas export` takes the answer that the report kept, and computes it again if it is not of this journal."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import cli
from launch.reports import kept, report
from launch.reports.facts import facts_of
from launch.rundir import names
from launch.rundir.run import Run, open_run
from nas.analysis import restored, stored
from nas.search import Journal


@pytest.fixture
def reported(whole: Run, tmp_path: Path) -> Path:
    """A copy of a finished run with a kept answer."""
    folder = Path(shutil.copytree(whole.folder, tmp_path / "run"))
    run, trials = open_run(folder)
    (folder / names.REPORT).mkdir(exist_ok=True)
    kept.keep(run, kept.means_of(run, trials))
    return folder


def exported(folder: Path, select: str, capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.run(["export", str(folder), "--select", select]) == cli.SUCCESS
    return capsys.readouterr().out


def test_a_report_keeps_its_answer(whole: Run) -> None:
    facts = facts_of(*open_run(whole.folder))
    assert facts.means
    report.write(facts)
    assert kept.kept(facts.run, facts.trials) == facts.means


@pytest.mark.parametrize("select", ["best", "knee"])
def test_the_kept_answer_is_exported(select: str, reported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "answer", lambda *_: pytest.fail("the answer is computed again"))
        text = exported(reported, select, capsys)
    (reported / names.REPORT / names.MEANS).unlink()
    assert text == exported(reported, select, capsys)


def test_a_trial_by_its_number_needs_no_model(
    reported: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (reported / names.REPORT / names.MEANS).unlink()
    monkeypatch.setattr(kept, "answer", lambda *_: pytest.fail("an answer is computed"))
    assert "# trial: 0\n" in exported(reported, "0", capsys)


def grown(folder: Path) -> None:
    with Journal.open(folder) as journal:
        journal.study.set_user_attr("more", 1)


def damaged(folder: Path) -> None:
    path = folder / names.REPORT / names.MEANS
    path.write_bytes(path.read_bytes().replace(b'"best":0', b'"best":1', 1))


def of_another_program(folder: Path) -> None:
    run, trials = open_run(folder)
    means = kept.means_of(run, trials)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "VERSION", "0.0")
        kept._program.cache_clear()
        kept.keep(run, means)
    kept._program.cache_clear()


def cut(folder: Path) -> None:
    (folder / names.REPORT / names.MEANS).write_bytes(b"")


@pytest.mark.parametrize("change", [grown, damaged, of_another_program, cut])
def test_an_answer_of_something_else_is_not_used(change: Callable[[Path], None], reported: Path) -> None:
    assert kept.kept(*open_run(reported)) is not None
    change(reported)
    assert kept.kept(*open_run(reported)) is None


@pytest.mark.parametrize(("key", "wrong"), [("trial", 10_000), ("mean", {"value": "nan", "low": 0, "high": 1})])
def test_means_that_no_report_writes_are_not_used(key: str, wrong: object, reported: Path) -> None:
    run, trials = open_run(reported)
    (first, *others) = stored(kept.means_of(run, trials))
    with pytest.raises(ValueError, match=r"trial|finite"):
        restored([{**first, key: wrong}, *others], trials)
