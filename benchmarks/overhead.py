"""Overhead of a trial in a search, beyond its training: Ray, the journal, checkpoints and the budget.

    python benchmarks/overhead.py [--trials 80] [--workers 2]

The benchmark runs a search of short trials (one epoch on a few built-in pictures). After a warm-up, the available time
is workers x wall time. The trials need the time that their epochs report (training and evaluation). The rest, per
trial, is overhead: the proposal, the budget check, the transfer, building the network, the checkpoint, the journal. A
system with one process per trial would also pay for its start and imports, which are timed for comparison.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nas.search import read_study, read_trials

_WARM = 3
"""Trials per worker that are not counted, because they include its start and imports."""
_START = "import torch, ray.tune, trainers, nas"


def config(trials: int, workers: int) -> dict[str, object]:
    return {
        "space": "shapes",
        "data": {"name": "shapes", "train_size": 320, "val_size": 160},
        "trainer": {"epochs": 1, "batch_size": 32, "warmup_epochs": 0.5},
        "objectives": ["top1", "macs"],
        "budget": {"params": "2x"},
        "search": {"trials": trials, "decide": 0},
        "resources": {"workers": workers},
    }


def overhead(run: Path, workers: int) -> tuple[int, float, float]:
    """(number of counted trials, seconds of training per trial, seconds of overhead per trial)."""
    study = read_study(run)
    needed = {trial.number: sum(record.seconds for record in trial.epochs.values()) for trial in read_trials(study)}
    ended = sorted(
        (trial.datetime_complete, needed[trial.number])
        for trial in study.get_trials(deepcopy=False)
        if trial.datetime_complete is not None and needed.get(trial.number)
    )
    begin, counted = ended[_WARM * workers - 1][0], ended[_WARM * workers :]
    wall = (counted[-1][0] - begin).total_seconds()
    training = statistics.fmean(seconds for _, seconds in counted)
    return len(counted), training, workers * wall / len(counted) - training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=80)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder) / "run.yaml", Path(folder) / "run"
        file.write_text(json.dumps(config(args.trials, args.workers)))
        subprocess.run(
            [sys.executable, "-m", "launch.cli", "search", str(file), "--run", str(run)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        trials, training, beyond = overhead(run, args.workers)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", _START], check=True)
    process = time.perf_counter() - started
    print(f"{trials} trials on {args.workers} workers: {1e3 * training:.0f} ms of training and evaluation each,")
    print(f"{1e3 * beyond:.0f} ms of overhead each; starting one process per trial would take {1e3 * process:.0f} ms")


if __name__ == "__main__":
    main()
