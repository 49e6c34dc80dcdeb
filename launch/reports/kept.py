"""The means of a run's answer, kept beside its report: the model behind them takes seconds, and `nas export` needs only
them.

The file holds one line with the seal of the journal's next line (`nas.search.lines`). So it counts only for the journal
from which the means were computed, and only unchanged. It names the program that computed them; those of another one
are not used.
"""

from collections.abc import Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path

import nas.analysis
from launch.rundir import names
from launch.rundir.run import VERSION, Run
from nas.analysis import Standing, answer, restored, stored
from nas.search import TrialRecord
from nas.search.lines import sealed, unsealed


def means_of(run: Run, trials: Sequence[TrialRecord]) -> Sequence[Standing]:
    """The standings of the run's answer: the kept ones, or new ones; empty without an answer."""
    means = kept(run, trials)
    if means is not None:
        return means
    found = answer(trials, run.objectives, run.config.trainer.epochs, run.space)
    return found.standings if found else ()


def kept(run: Run, trials: Sequence[TrialRecord]) -> Sequence[Standing] | None:
    """The standings that were kept for exactly these trials; None if there are none."""
    try:
        record = unsealed(_path(run).read_bytes(), run.crc)
        return restored(record["means"], trials) if record and record["program"] == _program() else None
    except (OSError, ValueError, KeyError, TypeError):  # they are computed again
        return None


def keep(run: Run, means: Sequence[Standing]) -> None:
    """Writes the standings of the run's answer beside its report."""
    _path(run).write_bytes(sealed({"program": _program(), "means": stored(means)}, run.crc))


def _path(run: Run) -> Path:
    return run.folder / names.REPORT / names.MEANS


@cache
def _program() -> str:
    """The version, and a digest of the code that computes answers."""
    code = b"".join(path.read_bytes() for path in sorted(Path(nas.analysis.__file__).parent.glob("*.py")))
    return f"{VERSION}-{blake2b(code, digest_size=8).hexdigest()}"
