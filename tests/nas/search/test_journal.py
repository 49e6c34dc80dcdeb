"""Tests the journal under all accidents of a file."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import resource
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from nas.search import Journal, JournalError, RunLockedError, read_study, settings_of
from nas.search.journal import is_journal

if TYPE_CHECKING:
    from conftest import Child

SETTINGS = {"space": "schema: 1", "config": {"trials": 3}}


def create(run: Path) -> Journal:
    return Journal.create(run, ["maximize", "minimize"], ["top1", "params"], SETTINGS)


def finish_trials(journal: Journal, count: int, note: str = "") -> None:
    for _ in range(count):
        trial = journal.study.ask()
        with journal.commit():
            trial.set_user_attr("note", note)
            journal.study.tell(trial, [0.5, 1.0])


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    with create(tmp_path / "run") as journal:
        finish_trials(journal, 2)
    with Journal.open(tmp_path / "run") as journal:
        assert journal.settings == SETTINGS
        assert journal.study.metric_names == ["top1", "params"]
        assert [trial.values for trial in journal.study.trials] == [[0.5, 1.0]] * 2


def test_the_file_is_optunas_own(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        finish_trials(journal, 2)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    study = optuna.load_study(study_name="nas", storage=storage)
    assert [trial.values for trial in study.trials] == [[0.5, 1.0]] * 2


def test_a_group_is_one_write_that_this_process_sees_at_once(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        size = (tmp_path / "journal.log").stat().st_size
        with journal.group():
            trial = journal.study.ask()
            trial.set_user_attr("note", 1)
            assert journal.study.trials[0].user_attrs == {"note": 1}
            assert (tmp_path / "journal.log").stat().st_size == size
        assert read_study(tmp_path).trials[0].user_attrs == {"note": 1}


def test_a_group_that_raises_writes_what_it_has(tmp_path: Path) -> None:
    with create(tmp_path) as journal:

        def die_halfway() -> None:
            with journal.group():
                journal.study.ask().set_user_attr("note", 1)
                raise KeyError

        with pytest.raises(KeyError):
            die_halfway()
        assert read_study(tmp_path).trials[0].user_attrs == journal.study.trials[0].user_attrs == {"note": 1}


def test_a_second_driver_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with create(tmp_path):
        message = rf"in use by process {os.getpid()} on .+; stop that driver first"
        with pytest.raises(RunLockedError, match=message):
            Journal.open(tmp_path)
        with pytest.raises(RunLockedError, match=message):
            create(tmp_path)
    Journal.open(tmp_path).close()


def test_the_lock_of_a_killed_driver_is_free(tmp_path: Path, fork: type[Child]) -> None:
    create(tmp_path).close()

    def hold(say: Callable[[object], None]) -> None:
        with Journal.open(tmp_path):
            (tmp_path / "journal.log.lock").symlink_to("nowhere")  # as if it died during an append
            say("held")
            time.sleep(60)

    holder = fork(hold)
    try:
        assert holder.heard() == "held"
        with pytest.raises(RunLockedError, match=f"process {holder.pid} on"):
            Journal.open(tmp_path)
    finally:
        holder.kill()
        holder.wait()
    with Journal.open(tmp_path) as journal:
        finish_trials(journal, 1)


@pytest.mark.parametrize(
    "tail", [b'{"op_code":8,"worker', b"\0" * 4096, b"\0\0\n", b'{"op_code":8,"trial_' + b"\0" * 99 + b"\n"]
)
def test_an_incomplete_last_line_is_cut(tmp_path: Path, tail: bytes) -> None:
    with create(tmp_path) as journal:
        finish_trials(journal, 2)
    path = tmp_path / "journal.log"
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    assert len(read_study(tmp_path).trials) == 2
    assert path.read_bytes() == whole + tail, "reading changes nothing"
    with Journal.open(tmp_path) as journal:
        assert path.read_bytes() == whole
        finish_trials(journal, 1)
    assert len(read_study(tmp_path).trials) == 3


def test_every_prefix_of_the_file_can_be_read_and_resumed(tmp_path: Path) -> None:
    with create(tmp_path / "whole") as journal:
        begun = (tmp_path / "whole/journal.log").stat().st_size
        finish_trials(journal, 1)
    whole = (tmp_path / "whole/journal.log").read_bytes()
    run = tmp_path / "cut"
    run.mkdir()
    for length in range(0, len(whole), 7):
        (run / "journal.log").write_bytes(whole[:length])
        if length < begun:
            with pytest.raises(JournalError, match=r"holds no run|is not a journal"):
                Journal.open(run)
            create(run).close()
        else:
            with Journal.open(run) as journal:
                finish_trials(journal, 1)


def test_a_line_damaged_in_the_middle_is_an_error(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        finish_trials(journal, 1)
    path = tmp_path / "journal.log"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b"{damaged\n"
    path.write_bytes(b"".join(lines))
    for attempt in (lambda: read_study(tmp_path), lambda: Journal.open(tmp_path)):
        with pytest.raises(JournalError, match=rf"line 3, at byte {sum(map(len, lines[:2]))}: it is not JSON; restore"):
            attempt()


def test_a_file_that_is_no_journal_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "journal.log").write_text("dear diary,\ntoday\n")
    with pytest.raises(JournalError, match="this program did not write it"):
        Journal.open(tmp_path)
    with pytest.raises(JournalError, match="is not a journal of this program, so it was not changed"):
        create(tmp_path)
    assert (tmp_path / "journal.log").read_text() == "dear diary,\ntoday\n"


@pytest.mark.parametrize(
    "text",
    ["one line without an end", "{}\n", '{"op_code": 0}\n', "\0" * 99 + "text", '{"op_code":0,"worker_id":"me"}\n'],
)
def test_a_run_does_not_start_in_a_foreign_journal(tmp_path: Path, text: str) -> None:
    (tmp_path / "journal.log").write_text(text)
    with pytest.raises(JournalError, match="so it was not changed: move it away"):
        create(tmp_path)
    assert (tmp_path / "journal.log").read_text() == text
    assert not is_journal(tmp_path / "journal.log")


def test_a_journal_of_optuna_is_not_one_of_this_program(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    optuna.create_study(study_name="nas", storage=storage).ask()
    before = (tmp_path / "journal.log").read_bytes()
    with pytest.raises(JournalError, match="so it was not changed: move it away"):
        create(tmp_path)
    assert (tmp_path / "journal.log").read_bytes() == before


def damage(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """The file with one changed bit, or a line dropped, doubled or swapped; the result is never just a shorter file."""
    lines = data.splitlines(keepends=True)
    place = rng.randrange(len(lines) - 1)
    kind = rng.choice(["bit", "drop", "double", "swap"])
    if kind == "bit":
        at = rng.randrange(len(data))
        changed = bytes([data[at] ^ 1 << rng.randrange(8)])
        return kind, data[:at] + changed + data[at + 1 :]
    if kind == "drop":
        del lines[place]
    elif kind == "double":
        lines.insert(place, lines[place])
    else:
        lines[place], lines[place + 1] = lines[place + 1], lines[place]
    return kind, b"".join(lines)


def test_what_was_changed_dropped_doubled_or_moved_is_found(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        finish_trials(journal, 5, "note")
    path, rng = tmp_path / "journal.log", random.Random(0)
    whole = path.read_bytes()
    for _ in range(1_000):
        kind, data = damage(whole, rng)
        path.write_bytes(data)
        for attempt in (read_study, Journal.open):
            with pytest.raises(JournalError, match=r"line \d+, at byte|holds no run"):
                attempt(tmp_path)
        assert path.read_bytes() == data, kind


def test_a_journal_of_an_older_version_is_read_and_sealed_from_then_on(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        finish_trials(journal, 2)
    path = tmp_path / "journal.log"
    old = re.sub(rb',"seal":"........"', b"", path.read_bytes())
    path.write_bytes(old)
    assert len(read_study(tmp_path).trials) == 2
    with Journal.open(tmp_path) as journal:
        finish_trials(journal, 1)
    assert path.read_bytes().startswith(old)
    assert len(read_study(tmp_path).trials) == 3
    path.write_bytes(path.read_bytes().replace(b"0.5", b"0.6", 1))
    with pytest.raises(JournalError, match="its seal is broken"):
        read_study(tmp_path)


def test_a_journal_whose_line_breaks_were_converted_says_so(tmp_path: Path) -> None:
    with create(tmp_path):
        pass
    path = tmp_path / "journal.log"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(JournalError, match=r"line 1, at byte 0: its line break is Windows' \(CR LF\)"):
        read_study(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: os.truncate(path, 300), "was cut: it has 300 bytes"),
        (lambda path: path.rename(path.with_name("old")) and path.write_bytes(b""), "was replaced by another"),
        (lambda path: path.write_bytes(b"x" * 5_000), "was changed while it was in use"),
    ],
)
def test_a_journal_cut_or_replaced_during_a_run_is_found_and_not_written(
    tmp_path: Path, change: Callable[[Path], object], said: str
) -> None:
    journal = create(tmp_path)
    finish_trials(journal, 2)
    path = tmp_path / "journal.log"
    change(path)
    left = path.read_bytes()
    with pytest.raises(JournalError, match=said):
        journal.study.ask()
    journal.close()
    assert path.read_bytes() == left


def test_a_run_is_not_begun_twice(tmp_path: Path) -> None:
    create(tmp_path).close()
    with pytest.raises(JournalError, match="already holds a run: resume it"):
        create(tmp_path)


def test_there_is_nothing_to_open_or_read(tmp_path: Path) -> None:
    for attempt in (Journal.open, read_study):
        with pytest.raises(JournalError, match="holds no run"):
            attempt(tmp_path)


def test_readers_follow_a_writer(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        reader = read_study(tmp_path)
        assert settings_of(reader) == SETTINGS
        for count in range(1, 4):
            finish_trials(journal, 1)
            assert len(reader.trials) == count
        with pytest.raises(JournalError, match="reading only"):
            reader.ask()


def test_others_may_write_between(tmp_path: Path) -> None:
    """A dashboard does so when it stores a note."""
    with create(tmp_path) as journal:
        other = optuna.load_study(
            study_name="nas", storage=JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
        )
        with journal.group():
            trial = journal.study.ask()
            other.set_user_attr("note", "good")
            trial.set_user_attr("mine", 1)
        journal.study.tell(trial, [0.5, 1.0])
        assert journal.study.user_attrs["note"] == "good"
        assert len(other.trials) == len(journal.study.trials) == 1
    assert read_study(tmp_path).trials[0].user_attrs == {"mine": 1}


def test_the_next_append_cuts_half_a_line_of_another_writer(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        with (tmp_path / "journal.log").open("ab") as file:
            file.write(b'{"op_code":2,"wor')
        finish_trials(journal, 1)
    assert len(read_study(tmp_path).trials) == 1


def test_after_a_full_disk_the_waiting_lines_are_written(tmp_path: Path) -> None:
    with create(tmp_path) as journal:
        finish_trials(journal, 1)
        path = tmp_path / "journal.log"
        size = path.stat().st_size
        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 40, old[1]))  # space for half a line
        try:
            with pytest.raises(
                JournalError, match=r"cannot write .*journal.log: File too large; nothing finished is lost"
            ):
                journal.study.ask()
            assert path.stat().st_size == size
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, ignored)
        finish_trials(journal, 1)
        assert len(journal.study.trials) == len(read_study(tmp_path).trials) == 3
    for line in path.read_bytes().splitlines():
        json.loads(line)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(JournalError, match=r"cannot write in .*Permission denied"):
            create(tmp_path / "run")
    finally:
        tmp_path.chmod(0o700)


def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(JournalError, match="cannot write in"):
        create(tmp_path / "file")


def test_the_file_stays_whole_when_appends_are_killed(tmp_path: Path, fork: type[Child]) -> None:
    """All that a killed writer reported as told is in the file."""
    create(tmp_path).close()

    def write(say: Callable[[object], None]) -> None:
        with Journal.open(tmp_path) as journal:
            while True:
                finish_trials(journal, 1, note="x" * 100_000)
                say("told")

    known = 0
    for delay in (0.01, 0.03, 0.05, 0.1):
        writer = fork(write)
        assert writer.heard() == "told"
        time.sleep(delay)
        writer.kill()
        writer.wait()
        told = 1
        with contextlib.suppress(EOFError):
            while writer.heard() == "told":
                told += 1
        finished = [trial for trial in read_study(tmp_path).trials if trial.state.is_finished()]
        assert len(finished) - known in (told, told + 1)
        known = len(finished)


def test_the_first_records_of_a_trial_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.log"
    with create(tmp_path) as journal:
        before = len(path.read_bytes().splitlines())
        with journal.group():
            journal.study.enqueue_trial({"x": 1})
            trial = journal.study.ask()
            trial.suggest_categorical("x", [0, 1])
            trial.suggest_float("y", 0.1, 1.0, log=True)
            trial.set_user_attr("note", [1])
            trial.set_user_attr("note", [2])
            trial.set_constraint("cost", -1.0)
            other = journal.study.ask()
            other.suggest_categorical("x", [0, 1])
            trial.set_user_attr("late", "still")
        assert len(path.read_bytes().splitlines()) == before + 2
        trial.set_user_attr("later", 1)
        journal.study.tell(trial, [0.5, 1.0])
        assert len(path.read_bytes().splitlines()) == before + 4
        written = journal.study.get_trials()
        # Applying lines one by one and reading the file give the same trials.
        assert read_study(tmp_path).get_trials() == written
    storage = JournalStorage(JournalFileBackend(str(path)))
    assert optuna.load_study(study_name="nas", storage=storage).get_trials() == written
    assert written[0].user_attrs == {"note": [2], "late": "still", "later": 1}
    assert written[0].params["x"] == 1
