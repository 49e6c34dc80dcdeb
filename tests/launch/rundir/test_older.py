"""A run that an older version began continues.

`tests/golden/runs/before-seals/journal.log` was written before lines had seals and epochs had metrics by name: a run of
`worked_off` in tests/launch/conftest.py, of which nine jobs were done. `THEN` is what the older version made of it, but
for 9889851a: the older version stopped it at a rung by its accuracy there; now the expected end decides.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from launch.rundir.run import Run, open_run
from nas.search import SearchConfig

KEPT = Path(__file__).parents[2] / "golden" / "runs" / "before-seals"
THEN = [
    ("complete", "6f0a8cac"),
    ("complete", "fef5f036"),
    ("complete", "78950b3f"),
    ("rejected", "29c45f43"),
    ("complete", "174fb830"),
    ("stopped", "0fdedd61"),
    ("rejected", "6d2a828c"),
    ("stopped", "bbf244bb"),
    ("stopped", "d12fb27c"),
    ("rejected", "64ad3acd"),
    ("stopped", "6019c4b6"),
    ("rejected", "2c830472"),
    ("rejected", "e3ed2b1e"),
    ("stopped", "ac9f0abf"),
    ("rejected", "5af9c76b"),
    ("complete", "ba5ee27e"),
    ("rejected", "09cfcff1"),
    ("rejected", "8a9d496b"),
    ("complete", "9889851a"),
    ("rejected", "df8f051e"),
    ("rejected", "b779de6c"),
    ("rejected", "2cc92461"),
    ("stopped", "b2942953"),
]
"""(status, start of the fingerprint) of every trial that the search proposed."""


def test_it_ends_as_with_the_older_version(finish_run: Callable[[Path], Run], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(KEPT, folder)
    run, before = open_run(folder)
    assert run.config.trainer.ema_epochs == 0
    assert run.config.trainer.start == "papers"
    assert len(before) == 14
    assert before[0].epochs[1].metrics == {"train_loss": 1.0, "loss": 1.2, "top1": 0.25}
    finish_run(folder)
    _, trials = open_run(folder)
    searched = [trial for trial in trials if not trial.origin.is_finalist]
    assert [(trial.status, trial.fingerprint[:8]) for trial in searched] == THEN
    assert run.config.search.decide == SearchConfig().decide, "its finalists are now chosen by what they decide"
    assert {trial.status for trial in trials if trial.origin.is_finalist} == {"complete"}
