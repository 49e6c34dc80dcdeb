"""A trial's checkpoints: `RUN/checkpoints/<trial>/epoch-<N>.pt`. Every file is complete or absent."""

import re
import shutil
from pathlib import Path

_NAME = re.compile(r"epoch-([0-9]+)\.pt")
_TRIAL = re.compile(r"[0-9]+")


def path_of(folder: Path, epoch: int) -> Path:
    """The file of that epoch; creates the folder if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"epoch-{epoch:04d}.pt"


def newest_first(folder: Path, at_most: int) -> list[Path]:
    """The files of epochs up to `at_most`, the highest first."""
    return [path for epoch, path in sorted(_files(folder), reverse=True) if epoch <= at_most]


def prune(folder: Path, keep: int) -> None:
    """Removes all but the newest `keep` files."""
    for _, path in sorted(_files(folder))[:-keep]:
        path.unlink(missing_ok=True)


def remove_except(root: Path, live: set[int]) -> None:
    """Removes the checkpoints of every trial that is not in `live`: such a trial is never continued."""
    if root.is_dir():
        for folder in root.iterdir():
            if _TRIAL.fullmatch(folder.name) and int(folder.name) not in live:
                shutil.rmtree(folder, ignore_errors=True)


def _files(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    return [(int(m[1]), path) for path in folder.iterdir() if (m := _NAME.fullmatch(path.name))]
