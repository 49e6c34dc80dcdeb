"""The folder of a private Ray: private to its owner, with a short path. Leftovers of killed drivers are removed."""

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
"""Most characters of the parent folder's path. A socket's path has at most 107 characters, and the part below the
parent (`/nas-xxxxxxxx/r/session_2026-11-28_19-26-18_369335_4194304/sockets/plasma_store`) has 80."""


@contextmanager
def private_folder() -> Iterator[tuple[Path, Path]]:
    """A folder for Ray and the file of its token; both are removed at the end of the block.

    Other users cannot read the folder (mode 0700), whatever modes Ray sets inside. This process holds a lock in it
    while it lives. A folder without a held lock was left by a killed driver: it is removed here, and the processes of
    its Ray that still run are killed.

    Raises:
        UserError: no usable parent folder has a path that is short enough.
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
    """Possible parent folders, the user's choice first."""
    named = [os.environ.get("RAY_TMPDIR"), tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    short = dict.fromkeys(Path(name).absolute() for name in named if name)
    return [base for base in short if len(os.fsencode(base)) <= _LONGEST and base.is_dir()]


def _made(bases: list[Path]) -> tuple[Path, int]:
    """A new folder, and the descriptor of its lock."""
    for base in bases:
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=base))
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Other processes look for leftovers under this name, so it is given only after locking.
            return folder.rename(base / folder.name.removeprefix(".")), lock
    raise UserError(
        f"Ray needs a folder for its sockets with a path of at most {_LONGEST} characters; "
        f"{tempfile.gettempdir()} is longer or cannot be written, and so is /tmp; set RAY_TMPDIR to such a folder"
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
    """Kills this user's processes that have a file of the folder open. All processes of Ray do: their logs.

    The folder's name is random and other users cannot read it, so only Ray's processes have its files open. Without
    `/proc` nothing is done.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # another user's, or gone
            # A process id may be reused between the check and the signal; a process handle is not.
            handle = os.pidfd_open(int(entry.name))
            try:
                if any(link.readlink().is_relative_to(folder) for link in (entry / "fd").iterdir()):
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            finally:
                os.close(handle)
