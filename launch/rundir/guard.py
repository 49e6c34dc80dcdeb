"""Checks of a run's folder before it is read: it may come from a stranger.

Nothing in a run is executed: the journal and the cached costs are JSON, spaces are YAML without tags, checkpoints are
read by `torch.load(weights_only=True)`, and Ray Tune's files are never read. This module refuses links that lead out of
the folder. `nas.search.reading` checks the contents of the journal.
"""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from launch.rundir import names
from nas.search import JournalError
from search_spaces.errors import named

_OPTUNA_LOCK = f"{names.JOURNAL}.lock"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:", re.ASCII)


def check_files(folder: Path) -> None:
    """Refuses a run with links that lead out of its folder. The folder may be a link; links within it are allowed.

    Raises:
        JournalError: names the first link that leaves the folder, or the first entry that is neither file nor folder;
            or the folder is not in a file system.
    """
    check_place(folder)
    root = folder.resolve()
    pending = [root] if root.is_dir() else []
    while pending:
        # A driver may be running: skip files that it has just removed.
        with suppress(FileNotFoundError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    mode = entry.stat(follow_symlinks=False).st_mode
                    if stat.S_ISDIR(mode):
                        pending.append(Path(entry.path))
                    elif stat.S_ISLNK(mode):
                        _check_link(Path(entry.path), root)
                    elif not stat.S_ISREG(mode):
                        raise JournalError(f"{_shown(entry.path)} is neither a file nor a folder; remove it")


def check_place(folder: Path) -> None:
    """Raises a JournalError if the path is not one of a file system. The folder need not exist."""
    if _SCHEME.fullmatch(next(iter(folder.parts), "")):
        raise JournalError(
            f"{_shown(folder)} is in an object store, but a run needs a file system (for appending, locking, "
            "renaming): give a folder on one that all nodes share, and copy the run when it is done"
        )


def _check_link(link: Path, root: Path) -> None:
    target = link.resolve()
    # Optuna's lock is a link that is never followed; it names the journal by its path on the driver's machine.
    if link != root / _OPTUNA_LOCK and not target.is_relative_to(root):
        raise JournalError(
            f"{_shown(link)} is a link to {_shown(target)}, outside of the run; a run must hold its own files: remove "
            "the link or replace it by a copy"
        )


def _shown(path: str | Path) -> str:
    return named(path)
