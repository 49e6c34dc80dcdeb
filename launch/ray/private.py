"""The folder of a private Ray: its owner's alone, of a short name, and emptied of what a killed driver left behind."""

import fcntl
import os
import secrets
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from launch.errors import UserError

_PREFIX, _LOCK, _TOKEN, _RAY = "nas-", "nas-ray.lock", "token", "r"
_LONGEST = 26
"""Characters of the folder that ours is made in. The path of a socket has at most 107, and Ray's own part of it
(`/nas-xxxxxxxx/r/session_2026-11-28_19-26-18_369335_4194304/sockets/plasma_store`) has 80."""


@contextmanager
def private_folder() -> Iterator[tuple[Path, Path]]:
    """A folder for Ray and the file of a token for it; both end with the block.

    Nobody else can look into the folder (mode 0700), whatever modes Ray gives what lies in it. As long as this process
    lives it holds a lock there. What bears no lock was left by a driver that was killed: it is removed here, and
    processes of its Ray that still run are ended.

    Raises:
        UserError: there is no folder for it with a name that is short enough.
    """
    bases = _bases()
    for base in bases:
        _remove_leftovers(base)
    folder, lock = _made(bases)
    try:
        (folder / _RAY).mkdir()
        token = folder / _TOKEN
        token.touch(0o600)
        token.write_text(secrets.token_hex(32))
        yield folder / _RAY, token
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _bases() -> list[Path]:
    """Folders to make ours in, the user's choice first."""
    named = [os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    short = dict.fromkeys(Path(name).absolute() for name in named if name)
    return [base for base in short if len(os.fsencode(base)) <= _LONGEST and base.is_dir()]


def _made(bases: list[Path]) -> tuple[Path, int]:
    """A new folder, and the descriptor by which it is locked."""
    for base in bases:
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=base))
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Under this name others look for what was left behind: only now, when it is locked.
            return folder.rename(base / folder.name.removeprefix(".")), lock
    raise UserError(
        f"Ray needs a folder for its sockets whose path has at most {_LONGEST} characters, and "
        f"{tempfile.gettempdir()} is longer or cannot be written, as is /tmp; set RAY_TMPDIR to one"
    )


def _remove_leftovers(base: Path) -> None:
    for folder in base.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its driver is at work
                _end_processes(folder / _RAY)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _end_processes(folder: Path) -> None:
    """Ends this user's processes that have a file of the folder open, as all of Ray's do: their logs.

    The folder's name was drawn at random and nobody else can look into it, so they are Ray's. Where there is no
    `/proc`, nothing is known and nothing is done.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone
            # A process's number may be given to another one between the look and the signal; its handle is not.
            handle = os.pidfd_open(int(entry.name))
            try:
                if any(link.readlink().is_relative_to(folder) for link in (entry / "fd").iterdir()):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
