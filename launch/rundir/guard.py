"""What a run's folder must be before it is read: it may have come from a stranger.

Nothing in a run is executed: the journal and the remembered costs are JSON, spaces are YAML without tags, checkpoints
are read by `torch.load(weights_only=True)`, and what Ray Tune leaves behind is never read again. What is left to refuse
are files that lead out of the folder, and journals that say what no driver ever wrote.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from launch.rundir import names
from nas.search import JournalError, TrialRecord
from search_spaces import FileError

_OPTUNA_LOCK = f"{names.JOURNAL}.lock"
_STRICT = ConfigDict(strict=True, revalidate_instances="always")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:", re.ASCII)
_ORIGIN = re.compile(r"(hand:[\w.-]+|finalist:\d+|sampler|fallback)?", re.ASCII)


class _Figure(BaseModel):
    """A cost with its interval, as the journal has it."""

    model_config = ConfigDict(strict=True)

    value: float
    lower: float
    upper: float
    unit: str
    source: str


class _Verdict(BaseModel):
    """What the budget said; empty without one."""

    model_config = ConfigDict(strict=True)
    feasible: bool = True
    stage: str = ""
    violations: dict[str, float] = {}


_TRIALS = TypeAdapter(list[TrialRecord], config=_STRICT)
_COSTS = TypeAdapter(dict[str, _Figure], config=ConfigDict(strict=True))
_LIMITS = TypeAdapter(dict[Annotated[str, Field(max_length=64)], float], config=ConfigDict(strict=True))


def check_files(folder: Path) -> None:
    """Refuses a run whose files lead out of it; the folder itself may be a link, and links within it are fine.

    Raises:
        JournalError: names the first link that leaves the folder, or the first thing that is neither file nor folder;
            or the folder is not one of a file system.
    """
    if _SCHEME.fullmatch(next(iter(folder.parts), "")):
        raise JournalError(
            f"{_shown(folder)} is in an object store, and a run needs what only a file system has: appending, locking, "
            "renaming; give a folder on one that all nodes share, and copy the run when it is done"
        )
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


def _check_link(link: Path, root: Path) -> None:
    target = link.resolve()
    # Optuna's lock is a link that nobody follows; it names the journal as the driver's machine has it mounted.
    if link != root / _OPTUNA_LOCK and not target.is_relative_to(root):
        raise JournalError(
            f"{_shown(link)} is a link to {_shown(target)}, outside of the run; a run holds its files itself: remove "
            "the link or put a copy in its place"
        )


@contextmanager
def readable(folder: Path) -> Iterator[None]:
    """Turns whatever a journal of nonsense raises into one line; what is worded for users already passes.

    Raises:
        JournalError: see above.
    """
    try:
        yield
    except (JournalError, FileError):
        raise
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _nonsense(folder, f"{place}: {first['msg']}") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, AssertionError, RecursionError) as error:
        raise _nonsense(folder, f"{type(error).__name__}: {error}") from error


def check_trials(trials: Sequence[TrialRecord]) -> None:
    """Raises a ValueError unless every trial is of the types that a driver writes, and its architecture can be read."""
    _TRIALS.validate_python(list(trials))
    for trial in trials:
        _COSTS.validate_python(dict(trial.costs))
        _Verdict.model_validate(dict(trial.budget))
        if not _ORIGIN.fullmatch(trial.origin):
            raise ValueError(f"trial {trial.number} is said to come from {trial.origin!r}")
        if trial.plan is not None:
            assert trial.architecture  # built once, here, and kept


def check_figures(limits: Any, reference: Any, measured: Mapping[int, Any]) -> None:  # noqa: ANN401  # that is the question
    """Raises a ValueError unless these attributes of the study are figures."""
    _LIMITS.validate_python(limits)
    _LIMITS.validate_python(reference)
    for figures in measured.values():
        _COSTS.validate_python(figures)


def printable(text: str) -> str:
    """One line in which nothing of a stranger's reaches a terminal as a control sequence."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in " ".join(text.splitlines()))


def _shown(path: str | Path) -> str:
    return printable(str(path))


def _nonsense(folder: Path, what: str) -> JournalError:
    reason = printable(what)
    return JournalError(
        f"{folder}/journal.log is not one that this program wrote: {reason[:200]}{'...' if len(reason) > 200 else ''}"
    )
