"""What the engine costs as a run grows: asking, the journal, memory, resuming; and how busy it keeps 64 workers.

    python benchmarks/engine.py                       # all of it: minutes
    python benchmarks/engine.py --trials 1000 --workers 16 --waves 4
    python benchmarks/engine.py --parts grow resume --write docs/search.md

grow     a run of so many trials, trained in no time: bytes of the journal, memory of the driver, each per trial
resume   opens that run again, and asks it for more: seconds to its engine, milliseconds of a proposal, of a `next`
read     that run's `nas status`, `report` and `export` without their imports: seconds, and memory
busy     so many workers whose trials do nothing for five seconds: the share of the time that they are at work

Nothing is trained and Ray has no part in it; trials have three epochs, costs are counted as in a search.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from _side_by_side import write_between

from launch.reports import report, status
from launch.reports.facts import facts_of
from launch.rundir.config import RunConfig
from launch.rundir.run import open_run
from nas.analysis import select
from nas.costs import Conditions, CostModel
from nas.search import ACCURACY, Engine, EpochRecord, Job, Journal, Objective, Outcome, SearchConfig
from search_spaces import parse_space

OBJECTIVES = (Objective(ACCURACY, "maximize"), Objective("macs", "minimize"))
EPOCHS = 3
ASKED = 40
SECONDS = 5.0

_COSTS = CostModel(Conditions())

_PARTS = ("grow", "resume", "read", "busy")
_CONFIG = '{"objectives": ["top1", "macs"], "trainer": {"epochs": 3}}'
_SPACE = """
schema: 1
name: engine
skeleton: {family: resnet, depth: 20, width: 16, image_size: 32, num_classes: 10}
placements:
  "*":
    conv: [plain, {aa: {kappa: [0.2, 0.25], upsilon: 0.25, heads: 4}}]
    refine: [none, {se: {reduction: [4, 16]}}, {cbam: {reduction: 16}}]
"""


@contextmanager
def opened(run: Path, sampler: str, trials: int) -> Iterator[tuple[Engine, Journal]]:
    """An engine over a run, new or not, and its journal."""
    directions, metrics = [o.direction for o in OBJECTIVES], [o.metric for o in OBJECTIVES]
    space = parse_space(_SPACE)
    settings = {"config": RunConfig.model_validate_json(_CONFIG).model_dump(mode="json"), "space": space.dump()}
    journal = Journal.open(run) if run.is_dir() else Journal.create(run, directions, metrics, settings)
    config = SearchConfig.model_validate(
        {"trials": trials, "sampler": sampler, "stopping": "none", "finalist_seeds": 0}
    )
    with journal:
        yield Engine(journal, space, config, objectives=OBJECTIVES, epochs=EPOCHS, costs=_COSTS), journal


def train(engine: Engine, job: Job) -> None:
    """Three epochs in no time: what costs more is better, with something of the architecture's own."""
    own = int(job.architecture.fingerprint[:6], 16) / 16**6
    top1 = min(0.2 + _COSTS.estimate(job.architecture, "macs").value / 2e8 + 0.1 * own, 1.0)
    for epoch in range(job.start_epoch + 1, job.stop_epoch + 1):
        engine.report(job, EpochRecord(epoch, {ACCURACY: top1, "loss": 1.0}, 0.1, 1.0))
    engine.finish(job, Outcome("reached"))


def due(engine: Engine) -> Job:
    """The next job; a call looks at a bounded number of proposals."""
    while (job := engine.next()) is None:
        assert not engine.done, engine.summary()
    return job


def memory() -> float:
    """Resident memory of this process, MiB."""
    fields = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) / 1024


def grow(run: Path, trials: int) -> list[list[str]]:
    """Works off a run of random proposals; slopes over its second half, where what is made once has been made."""
    with opened(run, "random", trials) as (engine, _):
        marks: list[tuple[int, int, float]] = []
        for number in range(1, trials + 1):
            train(engine, due(engine))
            if number in (trials // 2, trials):
                marks.append((number, (run / "journal.log").stat().st_size, memory()))
    (half, bytes_half, mib_half), (_, bytes_all, mib_all) = marks
    more = trials - half
    return [
        ["journal, KiB a trial", f"{(bytes_all - bytes_half) / more / 1024:.2f}"],
        [f"journal of {trials:,} trials, MiB", f"{bytes_all / 2**20:.1f}"],
        ["driver's memory, KiB a trial", f"{1024 * (mib_all - mib_half) / more:.1f}"],
        [f"driver's memory with {trials:,} trials, MiB", f"{mib_all:.0f}"],
    ]


def resume(run: Path, trials: int) -> list[list[str]]:
    """Opens a grown run with the default sampler and asks for more, none of which ends."""
    space = parse_space(_SPACE)
    began = time.perf_counter()
    with opened(run, "default", trials + 2 * ASKED) as (engine, journal):
        ready = time.perf_counter() - began
        # The first reads what all trials say.
        first, *others = (clocked(lambda: due(engine)) for _ in range(1 + ASKED))
        began_cpu = time.process_time()
        with journal.group():
            alone = [clocked(lambda: space.suggest(journal.study.ask())) for _ in range(ASKED)]
        cpu = time.process_time() - began_cpu
    return [
        [f"resume of {trials:,} trials, s", f"{ready:.2f}"],
        ["first proposal after it, ms", f"{1e3 * first:.0f}"],
        [f"`ask` of the default sampler at {trials:,} trials, ms: quartiles", quartiles(alone)],
        ["the same, of the processor alone, mean", f"{1e3 * cpu / ASKED:.1f}"],
        [f"`Engine.next` at {trials:,} trials (ask, costs, on the disk), ms: quartiles", quartiles(others)],
    ]


def read(run: Path) -> list[list[str]]:
    """Reads a grown run as the commands do."""
    before = memory()
    began = time.perf_counter()
    opened_run, trials = open_run(run)
    read_s, with_trials = time.perf_counter() - began, memory()
    status_s = clocked(lambda: status.status(opened_run, trials))
    export_s = clocked(lambda: report.exported(opened_run, select(trials, opened_run.objectives, "knee")))
    report_s = clocked(lambda: report.write(facts_of(opened_run, trials)))
    return [
        [f"reading {len(trials):,} trials, s", f"{read_s:.2f}"],
        ["their memory, MiB", f"{with_trials - before:.0f}"],
        ["`nas status` beyond reading, s", f"{status_s:.2f}"],
        ["`nas export` beyond reading, s", f"{export_s:.2f}"],
        ["`nas report` beyond reading, s", f"{report_s:.2f}"],
        ["memory of it all, MiB", f"{memory():.0f}"],
    ]


def busy(run: Path, workers: int, waves: int) -> list[list[str]]:
    """Trials that do nothing for `SECONDS`: how long so many of them take, against workers that never wait."""
    count = workers * waves
    ends: deque[tuple[float, Job]] = deque()
    with opened(run, "default", count) as (engine, _):
        began = time.perf_counter()
        while not engine.done:
            if ends and ends[0][0] <= time.perf_counter():
                train(engine, ends.popleft()[1])
            elif len(ends) < workers and (job := engine.next()) is not None:
                ends.append((time.perf_counter() + SECONDS, job))
            elif ends:
                time.sleep(max(ends[0][0] - time.perf_counter(), 0))
        spent = time.perf_counter() - began
    return [
        [
            f"{count:,} trials of {SECONDS:g} s on {workers} workers, share of the ideal throughput",
            f"{waves * SECONDS / spent:.3f}",
        ],
    ]


def clocked(call: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def quartiles(seconds: Sequence[float]) -> str:
    """In milliseconds."""
    return " / ".join(f"{1e3 * quartile:.1f}" for quartile in statistics.quantiles(seconds, n=4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--waves", type=int, default=16, help="trials that each worker gets")
    parser.add_argument("--parts", nargs="+", default=list(_PARTS), choices=_PARTS)
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="keep the grown run there, or find it there")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace what stands between the marks in this file")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lines = ["| figure | |", "|---|---:|"]
    print(*lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        grown = arguments.run or Path(folder) / "grown"
        for part in arguments.parts:
            if part == "grow":
                found = grow(grown, arguments.trials)
            elif part == "resume":
                # A copy: what is asked for below is never trained.
                copy = Path(folder) / "resumed"
                shutil.copytree(grown, copy)
                found = resume(copy, arguments.trials)
            elif part == "read":
                found = read(grown)
            else:
                found = busy(Path(folder) / "busy", arguments.workers, arguments.waves)
            for row in found:
                lines.append("| " + " | ".join(row) + " |")
                print(lines[-1], flush=True)
    if arguments.write is not None:
        write_between("\n".join(lines), "benchmarks/engine.py", arguments.write)


if __name__ == "__main__":
    main()
