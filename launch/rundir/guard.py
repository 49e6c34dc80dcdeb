"""What a run's folder must be before it is read: it may have come from a stranger.

Nothing in a run is executed: the journal and the remembered costs are JSON, spaces are YAML without tags, checkpoints
are read by `torch.load(weights_only=True)`, and what Ray Tune leaves behind is never read again. What is left to refuse
are files that lead out of the folder; what a journal may say is checked where it is read (`nas.search.reading`).
"""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from launch.rundir import names
from nas.search import JournalError
from search_spaces.errors import printable

_OPTUNA_LOCK = f"{names.JOURNAL}.lock"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:", re.ASCII)


def check_files(folder: Path) -> None:
    """Refuses a run whose files lead out of it; the folder itself may be a link, and links within it are fine.

    Raises:
        JournalError: names the first link that leaves the folder, or the first thing that is neither file nor folder;
            or the folder is not one of a file system.
    """
    check_place(folder)
    root = folder.resolve()
    pending = [root] if root.is_dir() else []
    while pending:
        # A driver may be at work: what it has just removed is passed over.
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
    """Raises a JournalError unless the folder is one of a file system, there or not."""
    if _SCHEME.fullmatch(next(iter(folder.parts), "")):
        raise JournalError(
            f"{_shown(folder)} is in an object store, and a run needs what only a file system has: appending, locking, "
            "renaming; give a folder on one that all nodes share, and copy the run when it is done"
        )


def _check_link(link: Path, root: Path) -> None:
    target = link.resolve()
    # Optuna's lock is a link that nobody follows; it names the journal as the driver's machine has it mounted.
    if link != root / _OPTUNA_LOCK and not target.is_relative_to(root):
        raise JournalError(
            f"{_shown(link)} is a link to {_shown(target)}, outside of the run; a run holds its files itself: remove "
            "the link or put a copy in its place"
        )


def _shown(path: str | Path) -> str:
    return printable(str(path))
