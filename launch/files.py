"""Output files: checks before the work that they can be written, and one-line messages when a write fails."""

import errno
import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from search_spaces.errors import named

_OUTPUT = "standard output"

_REMEDIES: Mapping[int, str] = {
    errno.EACCES: "permission denied: change its permissions, or choose another place",
    errno.EDQUOT: "your quota of the disk is used up: make room there, or choose another place",
    errno.EEXIST: "is a file, but a folder is needed: move it, or choose another place",
    errno.EISDIR: "is a folder, but a file is needed: name a file in it",
    errno.ELOOP: "its links form a loop: remove one of them, or choose another place",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENAMETOOLONG: "a name in this path is too long: choose a shorter one",
    errno.ENOENT: "no such file or folder",
    errno.ENOSPC: "the disk is full: make room there, or choose another place",
    errno.ENOTDIR: "is a file, but a folder is needed: move it, or choose another place",
    errno.EPERM: "permission denied: change its permissions, or choose another place",
    errno.EROFS: "is on a read-only file system: choose another place",
}


def in_words(error: OSError) -> str | None:
    """The path, the problem and the remedy; None if the error is not about a file."""
    if isinstance(error, ConnectionError | TimeoutError | ChildProcessError | ProcessLookupError):
        return None
    what = _REMEDIES.get(error.errno or 0)
    if error.filename is None:
        gone = error.errno == errno.ENOENT  # only a question for the current folder names no file
        return "the current folder was removed: change to another one" if gone else what
    if error.filename == _OUTPUT:
        why = (error.strerror or str(error)).lower()
        return f"{_OUTPUT} cannot be written ({why}): send it to another file, or to /dev/null"
    name = error.filename if isinstance(error.filename, str | bytes | Path) else ""
    return f"{named(os.fsdecode(name))}: {what or (error.strerror or str(error)).lower()}"


class _Output(io.TextIOWrapper):
    """A stream whose errors have the file name `_OUTPUT`."""

    def write(self, text: str, /) -> int:
        """As in `io.TextIOWrapper`."""
        with naming(Path(_OUTPUT)):
            return super().write(text)

    def flush(self) -> None:
        """As in `io.TextIOWrapper`."""
        with naming(Path(_OUTPUT)):
            super().flush()


def naming_output(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """Standard output, with write errors that name it: otherwise they would look like those of a file of the run."""
    return _Output(
        io.BufferedWriter(io.FileIO(stream.fileno(), "w", closefd=False)),
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,
    )


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Gives an OSError from the block the file name `path` if it names no file, as for a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def check_file(path: Path) -> None:
    """Raises an OSError that names the obstacle if no file can be written at `path`. Creates nothing."""
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
    """Raises an OSError if no files can be written into the folder, which may not exist yet. Creates nothing."""
    there = _nearest(path)
    if not there.is_dir():
        raise _error(errno.ENOTDIR, there)
    if not os.access(there, os.W_OK | os.X_OK):
        raise _denied(there)


def write_text(path: Path, text: str) -> None:
    """Writes the file; creates its folder if it is missing. OSErrors name the file."""
    check_file(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _nearest(path: Path) -> Path:
    """The path with its links followed, or its nearest parent that exists."""
    followed = _followed(path)
    for candidate in (followed, *followed.parents):
        try:
            candidate.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return candidate
    return followed


def _followed(path: Path) -> Path:
    """As `Path.resolve`, but without its RuntimeError for links that form a loop."""
    return Path(os.path.realpath(path))


def _denied(path: Path) -> OSError:
    read_only = os.statvfs(path).f_flag & os.ST_RDONLY
    return _error(errno.EROFS if read_only else errno.EACCES, path)


def _error(code: int, path: Path) -> OSError:
    return OSError(code, os.strerror(code), str(path))
