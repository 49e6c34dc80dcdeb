"""What a command writes: whether it can be written is found before the work, and what stops a write is one line."""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_REMEDIES: Mapping[int, str] = {
    errno.EACCES: "you have no right to it: change its rights, or choose another place",
    errno.EDQUOT: "your quota of the disk is used up: make room there, or choose another place",
    errno.EEXIST: "a file stands where a folder is needed: move it, or choose another place",
    errno.EISDIR: "is a folder, and a file is needed: name a file in it",
    errno.ELOOP: "its links lead round in a circle: remove one of them, or choose another place",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENAMETOOLONG: "a name in this path is too long: choose a shorter one",
    errno.ENOENT: "no such file or folder",
    errno.ENOSPC: "the disk is full: make room there, or choose another place",
    errno.ENOTDIR: "a file stands where a folder is needed: move it, or choose another place",
    errno.EPERM: "you have no right to it: change its rights, or choose another place",
    errno.EROFS: "is on a file system that is read-only: choose another place",
}


def in_words(error: OSError) -> str | None:
    """Path, what is wrong there, and the remedy; None of an error that is not about a file."""
    if isinstance(error, ConnectionError | TimeoutError | ChildProcessError | ProcessLookupError):
        return None
    what = _REMEDIES.get(error.errno or 0)
    if error.filename is None:
        return what
    name = error.filename if isinstance(error.filename, str | bytes | Path) else ""
    return f"{os.fsdecode(name)}: {what or (error.strerror or str(error)).lower()}"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """An OSError in the block that names no file, such as one about a full disk, is about `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def check_file(path: Path) -> None:
    """Raises an OSError that names what stands in the way, unless a file can be written there. Makes nothing."""
    there = _nearest(path)
    if there.is_dir():
        if there == _followed(path):
            raise _error(errno.EISDIR, path)
        check_folder(there)
    elif there != _followed(path):
        raise _error(errno.ENOTDIR, there)
    elif not os.access(there, os.W_OK):
        raise _denied(there)


def check_folder(path: Path) -> None:
    """Raises an OSError unless files can be written into the folder, which need not be there. Makes nothing."""
    there = _nearest(path)
    if not there.is_dir():
        raise _error(errno.ENOTDIR, there)
    if not os.access(there, os.W_OK | os.X_OK):
        raise _denied(there)


def write_text(path: Path, text: str) -> None:
    """Writes the file, and makes its folder if need be. OSErrors name the file."""
    check_file(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _nearest(path: Path) -> Path:
    """The path itself where links lead, or the nearest thing above it that is there."""
    followed = _followed(path)
    for candidate in (followed, *followed.parents):
        try:
            candidate.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return candidate
    return followed


def _followed(path: Path) -> Path:
    """As `Path.resolve`, which raises a RuntimeError where links lead round in a circle."""
    return Path(os.path.realpath(path))


def _denied(path: Path) -> OSError:
    read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    return _error(errno.EROFS if read_only else errno.EACCES, path)


def _error(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
