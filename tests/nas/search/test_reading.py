"""Reading a run without Optuna gives the same run as reading it with Optuna."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas.search import JournalError, read_study, read_trials
from nas.search.reading import read_run

if TYPE_CHECKING:
    from conftest import Lab


@pytest.mark.parametrize("sampler", ["default", "nsga2"])
def test_both_ways_of_reading_agree(lab: Lab, sampler: str) -> None:
    with lab.journal() as journal:
        lab.work(lab.engine(journal, trials=14, sampler=sampler, decide=0.3, limit=131.0), workers=3)
    study, found = read_study(lab.run), read_run(lab.run)
    assert list(found.trials) == read_trials(study)
    assert dict(found.attributes) == study.user_attrs
    assert list(found.metrics) == study.metric_names
    assert len({trial.status for trial in found.trials}) >= 3


def test_lines_of_other_programs_are_read(lab: Lab) -> None:
    """A dashboard stores a note, and another program adds a trial and a second study with Optuna."""
    with lab.journal() as journal:
        lab.work(lab.engine(journal, trials=4))
    storage = JournalStorage(JournalFileBackend(str(lab.run / "journal.log")))
    other = optuna.load_study(study_name="nas", storage=storage)
    other.set_user_attr("dashboard:note", "good")
    known = len(other.trials)
    trial = other.ask()
    trial.suggest_float("x", 0.0, 1.0)
    other.tell(trial, [0.5, 1.0])
    optuna.create_study(study_name="mine", storage=storage).ask()
    found = read_run(lab.run)
    assert found.attributes["dashboard:note"] == "good"
    assert [trial.status for trial in found.trials[known:]] == ["unlaunched"]
    assert list(found.trials) == read_trials(read_study(lab.run))


def test_there_is_nothing_to_read(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="holds no run"):
        read_run(tmp_path)
    (tmp_path / "journal.log").touch()
    with pytest.raises(JournalError, match="holds no run"):
        read_run(tmp_path)


def test_values_that_only_pythons_json_parser_accepts_are_read(lab: Lab) -> None:
    """A reason may name a file whose name is not Unicode, and Optuna's dashboard may store deeply nested lists."""
    reason, deep = "no such file: \udcff", functools.reduce(lambda inner, _: [inner], range(300), [])
    with lab.journal() as journal:
        journal.study.set_user_attr("note", reason)
        journal.study.set_user_attr("deep", deep)
    found = read_run(lab.run)
    assert found.attributes["note"] == reason
    assert found.attributes["deep"] == deep
