"""The journal of a run: one Optuna journal file, one writer, any number of readers.

``RUN/journal.log`` has Optuna's own format (JSON lines, `optuna.storages.JournalStorage`), so ``optuna-dashboard`` can
open it. Only the way of writing differs:

* There is one driver at a time. It locks the run with ``flock``; the kernel releases the lock however the driver ends.
* Writes are grouped. Optuna appends and syncs every parameter separately (5 ms each). Here records that belong together
  are one write, which waits for the disk only where the protocol needs it (`Journal.commit`).
* Records about a trial are merged into the trial's first line until that line is written. Optuna writes
  `Study.add_trial` in the same way. This halves the bytes, and leaves an eighth of the records to apply at a resume.
* If an append fails (a full disk), the file is restored, and the lines are kept for the next attempt.
* Every line is sealed (`nas.search.lines`), so reading finds lines that were changed, dropped or moved. An append first
  checks that the file still ends with the bytes that were written before.

Nothing is read with pickle.
"""

import json
import os
import socket
import time
import warnings
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import filelock
import optuna
from optuna.storages.journal import BaseJournalBackend, JournalFileSymlinkLock
from optuna.trial import TrialState

from nas.search.lines import OURS, JournalError, Lines, sealed
from nas.search.names import DRIVER_NAME, JOURNAL_NAME, LOCK_NAME, SETTINGS, STUDY_NAME
from nas.search.optuna_private import IndexedStorage
from search_spaces.errors import named

_OPTUNA_LOCK_SUFFIX = ".lock"

_CREATE_TRIAL = 4
"""Optuna's number of this operation."""
_FIRST = b'{"op_code":0,"worker_id":"","study_name":"nas"'
"""The first bytes of every journal of this program."""
_LONGEST_BEGINNING = 1 << 20


class RunLockedError(JournalError):
    """Another driver holds the run."""


class Journal:
    """A run opened for writing. Use it as a context manager, or `close` it.

    Raises:
        RunLockedError: Another driver holds the run.
        JournalError: The folder cannot be written, there is no run to resume, the folder already holds a run, or the
            journal is damaged before its end.
    """

    def __init__(self, run: Path, backend: "_Writer", lock: filelock.BaseFileLock, study: optuna.Study) -> None:
        self.run = run
        self.study = study
        self._backend = backend
        self._lock = lock

    @classmethod
    def create(
        cls,
        run: Path,
        directions: Sequence[Literal["minimize", "maximize"]],
        metrics: Sequence[str],
        settings: Mapping[str, Any],
    ) -> "Journal":
        """Starts a run.

        Args:
            run: The run's folder; created if it does not exist.
            directions: ``maximize`` or ``minimize`` for each objective.
            metrics: Names of the objectives, as ``optuna-dashboard`` shows them.
            settings: All settings of the run, as JSON values. Stored as the study's user attribute ``settings``.
        """
        lock = _take(run)
        with _released_on_error(lock):
            path = run / JOURNAL_NAME
            if path.exists():
                _clear_beginning(path)
            backend = _Writer(path)
            storage = IndexedStorage(backend)
            with backend.held():
                study = optuna.create_study(storage=storage, study_name=STUDY_NAME, directions=list(directions))
                with warnings.catch_warnings():
                    # Experimental in Optuna 5; the dashboard reads it.
                    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                    study.set_metric_names(list(metrics))
                study.set_user_attr(SETTINGS, dict(settings))
            backend.flush(sync=True)
            _sync_folder(run)
            return cls(run, backend, lock, study)

    @classmethod
    def open(cls, run: Path) -> "Journal":
        """Opens a run to resume it: locks it, removes the stale lock of a dead driver, cuts an incomplete last line."""
        path = run / JOURNAL_NAME
        if not path.is_file():
            raise JournalError(f"{named(run)} holds no run: {JOURNAL_NAME} is not there")
        lock = _take(run)
        with _released_on_error(lock):
            begun = _cut_torn_end(path) > 0
            backend = _Writer(path)
            study = _load(backend, path) if begun else None
            if study is None or SETTINGS not in study.user_attrs:
                raise JournalError(f"{named(run)} holds no run: its driver died while creating it; start the run again")
            return cls(run, backend, lock, study)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that `create` stored."""
        return settings_of(self.study)

    @contextmanager
    def group(self) -> Iterator[None]:
        """Appends all writes of the block together at its end, without waiting for the disk.

        They survive a crash of the process, but not of the machine. If the block raises, its writes so far are still
        appended, because Optuna already has them in memory and the file must agree.
        """
        with self._backend.held():
            yield

    @contextmanager
    def commit(self) -> Iterator[None]:
        """Like `group`, but the file is on the disk at the end of the block."""
        with self._backend.held():
            yield
        self._backend.flush(sync=True)

    def close(self) -> None:
        """Writes the remaining lines and releases the run."""
        try:
            self._backend.flush(sync=True)
        finally:
            _release(self.run, self._lock)

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_study(run: Path) -> optuna.Study:
    """The present study of a run; a driver may be writing to it. Writes nothing; ignores an incomplete last line.

    Raises:
        JournalError: There is no run, or the journal is damaged before its end.
    """
    path = run / JOURNAL_NAME
    if not path.is_file():
        raise JournalError(f"{named(run)} holds no run: {JOURNAL_NAME} is not there")
    return _load(_Reader(path), path)


def settings_of(study: optuna.Study) -> dict[str, Any]:
    """The settings that the run was created with."""
    return dict(study.user_attrs[SETTINGS])


def _load(backend: BaseJournalBackend, path: Path) -> optuna.Study:
    try:
        return optuna.load_study(study_name=STUDY_NAME, storage=IndexedStorage(backend))
    except KeyError:
        raise JournalError(
            f"{named(path)} is not a journal of this program: it holds no study named {STUDY_NAME!r}"
        ) from None


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Holds the lock of a run, so that no driver can start.

    Raises:
        RunLockedError: A driver holds the run.
        JournalError: The folder cannot be written.
    """
    lock = _take(run)
    try:
        yield
    finally:
        _release(run, lock)


def is_journal(path: Path) -> bool:
    """Whether a file is this program's journal, also if its driver died while it created the run.

    Damage after the beginning does not matter.
    """
    try:
        return path.is_file() and (_is_beginning(path) or SETTINGS in _first_attributes(path))
    except OSError:
        return False


def _first_attributes(path: Path) -> set[str]:
    """The names of the study's attributes that this program set before the first trial."""
    names: set[str] = set()
    try:
        for line in Lines(path).new():
            if line.get("op_code") == _CREATE_TRIAL:
                break
            if line.get("worker_id") == OURS and isinstance(line.get("user_attr"), dict):
                names |= line["user_attr"].keys()
    except JournalError:
        pass
    return names


def _is_beginning(path: Path) -> bool:
    """Whether the file is an incomplete new journal, whose driver died early: it has no settings and no trials."""
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    begins = data.rstrip(b"\0")[: len(_FIRST)]
    return (
        len(data) < _LONGEST_BEGINNING
        and _FIRST.startswith(begins)
        and not any(mark in whole for mark in (b'"settings"', b'"op_code":4'))
    )


def _clear_beginning(path: Path) -> None:
    """Empties an incomplete new journal (see `_is_beginning`).

    Raises:
        JournalError: the file is not empty and is something else. It is not changed.
    """
    if not path.stat().st_size:
        return
    if _is_beginning(path):
        os.truncate(path, 0)
    elif is_journal(path):
        raise JournalError(f"{named(path.parent)} already holds a run: resume it, or choose another folder")
    else:
        raise JournalError(
            f"{named(path)} is not a journal of this program, so it was not changed: move it away, or choose another "
            "folder"
        )


class _Reader(BaseJournalBackend):
    """Reads the file's complete lines, each once and in order; never writes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines = Lines(path)
        self._delivered = 0
        self._trials = 0

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        assert log_number_from == self._delivered, "a backend serves one storage"
        for log in self._new_lines():
            self._delivered += 1
            self._trials += log["op_code"] == _CREATE_TRIAL
            yield log

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        return self._lines.new()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        del logs
        raise JournalError(f"{named(self._path)} is opened for reading only")


class _Writer(_Reader):
    """Adds grouped, synced appends to `_Reader`.

    Optuna applies a record to its memory by reading it back. So a record that is not yet written is delivered from
    memory, and skipped in the file later. Other programs (a dashboard that stores a note) may append in between; their
    records are delivered when they are found. Optuna's own lock file prevents simultaneous writes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        path.touch()
        self._lock = JournalFileSymlinkLock(str(path))
        self._holds = 0
        self._waiting: list[dict[str, Any]] = []
        self._fresh: dict[int, dict[str, Any]] = {}
        self._undelivered: deque[dict[str, Any]] = deque()
        self._unsynced = False

    def _new_lines(self) -> Iterator[dict[str, Any]]:
        while self._undelivered:
            yield self._undelivered.popleft()
        yield from self._lines.new()

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        for log in logs:
            # This process must apply the same values as a reader of the file.
            plain = json.loads(json.dumps(log))
            self._undelivered.append(plain)
            if not self._folded(plain):
                self._waiting.append({**plain, "worker_id": OURS})
                if plain["op_code"] == _CREATE_TRIAL:
                    self._fresh[self._trials] = self._waiting[-1]
        if not self._holds:
            self.flush(sync=True)

    def _folded(self, log: Mapping[str, Any]) -> bool:
        """Merges a record into the one that creates its trial, if that one is not written yet; whether it did."""
        created = self._fresh.get(log.get("trial_id", -1))
        if created is None:
            return False
        match log:
            case {"param_name": name, "param_value_internal": value, "distribution": distribution}:
                more = {"params": {name: value}, "distributions": {name: distribution}}
            case {"user_attr": attribute}:
                more = {"user_attrs": attribute}
            case {"system_attr": attribute}:
                more = {"system_attrs": attribute}
            case {"state": TrialState.RUNNING, "datetime_start": start}:
                more = {}
                created.update(state=log["state"], datetime_start=start)
            case _:
                return False
        for key, value in more.items():
            created[key] = {**created.get(key, {}), **value}
        return True

    @contextmanager
    def held(self) -> Iterator[None]:
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
            if not self._holds:
                self.flush(sync=False)

    def flush(self, *, sync: bool) -> None:
        """Appends the waiting lines; with `sync`, returns when they are on the disk."""
        if not self._waiting and not (sync and self._unsynced):
            return
        try:
            if self._waiting:
                self._lock.acquire()
            try:
                self._append(sync)
            finally:
                if self._waiting:
                    self._lock.release()
        except OSError as error:
            raise JournalError(
                f"cannot write {named(self._path)}: {error.strerror}; nothing finished is lost: fix this and resume "
                "the run"
            ) from error
        self._waiting.clear()
        self._fresh.clear()
        self._unsynced = not sync

    def _append(self, sync: bool) -> None:
        fd = os.open(self._path, os.O_RDWR | os.O_APPEND)
        try:
            self._lines.check(fd)
            size = os.fstat(fd).st_size
            if self._waiting and size != self._lines.offset:
                self._undelivered.extend(self._lines.new())
                if size != self._lines.offset:
                    # We hold the writers' lock, so the writer that left half a line is dead.
                    os.ftruncate(fd, self._lines.offset)
                    size = self._lines.offset
            lines, crc = [], self._lines.crc
            for log in self._waiting:
                lines.append(sealed(log, crc))
                crc = zlib.crc32(lines[-1], crc)
            try:
                rest = memoryview(b"".join(lines))
                while rest:
                    rest = rest[os.write(fd, rest) :]
                if sync:
                    os.fsync(fd)
            except OSError:
                # Half a line would merge with the next one.
                os.ftruncate(fd, size)
                raise
            for line in lines:
                self._lines.pass_by(line)
        finally:
            os.close(fd)


def _take(run: Path) -> filelock.BaseFileLock:
    try:
        run.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(run / LOCK_NAME, timeout=0, thread_local=False)
        lock.acquire()
    except filelock.Timeout:
        raise RunLockedError(f"{named(run)} is in use by {_holder(run)}; stop that driver first") from None
    except OSError as error:
        raise JournalError(f"cannot write in {named(run)}: {error.strerror or error}") from error
    with _released_on_error(lock):
        try:
            holder = {"pid": os.getpid(), "host": socket.gethostname()}
            (run / DRIVER_NAME).write_text(json.dumps(holder))
            _clear_stale_optuna_lock(run / (JOURNAL_NAME + _OPTUNA_LOCK_SUFFIX))
        except OSError as error:
            raise JournalError(f"cannot write in {named(run)}: {error.strerror or error}") from error
    return lock


def _release(run: Path, lock: filelock.BaseFileLock) -> None:
    (run / DRIVER_NAME).unlink(missing_ok=True)
    lock.release()


@contextmanager
def _released_on_error(lock: filelock.BaseFileLock) -> Iterator[None]:
    try:
        yield
    except BaseException:
        lock.release()
        raise


def _holder(run: Path) -> str:
    try:
        holder = json.loads((run / DRIVER_NAME).read_text())
        return f"process {holder['pid']} on {holder['host']}"
    except (OSError, ValueError, KeyError):
        return "another process"


def _clear_stale_optuna_lock(path: Path) -> None:
    """Removes Optuna's lock if it stays: it is only held for one append. Optuna would wait 30 s for a dead driver's."""
    until = time.monotonic() + 0.5
    while path.is_symlink() or path.exists():
        if time.monotonic() > until:
            with suppress(FileNotFoundError):
                path.unlink()
            return
        time.sleep(0.02)


def _cut_torn_end(path: Path) -> int:
    """Cuts the file after its last complete line and returns its new size in bytes.

    A kill can leave half a line, a power failure zeros. A file without a complete line is not cut.

    Raises:
        JournalError: The file is damaged before its end, or it is no journal.
    """
    lines = Lines(path)
    for _ in lines.new():
        pass
    if not lines.offset:
        if path.stat().st_size and not _is_beginning(path):
            raise JournalError(f"{named(path)} is not a journal of this program")
        return 0
    with path.open("r+b") as file:
        if file.seek(0, os.SEEK_END) > lines.offset:
            file.truncate(lines.offset)
            os.fsync(file.fileno())
    return lines.offset


def _sync_folder(run: Path) -> None:
    fd = os.open(run, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
