"""Time and memory that the engine takes as a run grows, and how busy it keeps 64 workers.

    python benchmarks/engine.py                       # all parts: minutes
    python benchmarks/engine.py --trials 1000 --workers 16 --waves 4
    python benchmarks/engine.py --parts grow resume --write docs/search.md

grow     runs `--trials` trials of zero length: size of the journal and memory of the driver, each per trial
resume   opens that run again and asks for proposals: seconds to open, milliseconds per proposal and per `next`
jobs     opens that run again and trains random proposals: processor time per job and per summary
read     runs `nas status`, `report` and `export` on that run: processor time, without the imports, and memory
board    draws that run's TensorBoard files anew, as a resumed search does: processor time, memory, threads, open files
busy     `--workers` workers with trials that wait for five seconds: the share of the time that they are at work

Nothing is trained and Ray is not used. Trials have three epochs; costs are estimated as in a real search.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from _side_by_side import write_between
from rich.console import Console

from launch.reports import prose, report, status
from launch.reports.facts import facts_of
from launch.reports.kept import means_of
from launch.rundir import names
from launch.rundir.config import RunConfig
from launch.rundir.run import Run, open_run
from launch.session import Drawing
from nas.analysis import select
from nas.costs import Conditions, CostModel
from nas.search import Engine, EpochRecord, Job, Journal, Objective, Outcome, SearchConfig, TrialRecord
from nas.search.reading import uncollected
from search_spaces import parse_space

OBJECTIVES = (Objective("top1", "maximize"), Objective("macs", "minimize"))
EPOCHS = 3
ASKED = 40
JOBS = 100
SECONDS = 5.0

_COSTS = CostModel(Conditions())

_PARTS = ("grow", "resume", "jobs", "read", "board", "busy")
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


def _exported(run: Run, trials: Sequence[TrialRecord]) -> str:
    told = means_of(run, trials)
    return prose.exported(run, select(trials, run.objectives, "knee", told), told)


_COMMANDS: Mapping[str, Callable[[Run, Sequence[TrialRecord]], object]] = {
    "status": status.status,
    "report": lambda run, trials: report.write(facts_of(run, trials)),
    "export": _exported,  # after the report, which keeps the answer
}


@contextmanager
def opened(run: Path, sampler: str, trials: int, stopping: str = "none") -> Iterator[tuple[Engine, Journal]]:
    """An engine and its journal for a run, which is created if it does not exist."""
    directions, metrics = [o.direction for o in OBJECTIVES], [o.metric for o in OBJECTIVES]
    space = parse_space(_SPACE)
    settings = {"config": RunConfig.model_validate_json(_CONFIG).model_dump(mode="json"), "space": space.dump()}
    journal = Journal.open(run) if run.is_dir() else Journal.create(run, directions, metrics, settings)
    config = SearchConfig.model_validate({"trials": trials, "sampler": sampler, "stopping": stopping})
    with journal:
        yield Engine(journal, space, config, objectives=OBJECTIVES, epochs=EPOCHS, costs=_COSTS), journal


def train(engine: Engine, job: Job) -> None:
    """Reports three epochs at once. The accuracy grows with the cost, plus a term that depends on the architecture."""
    own = int(job.architecture.fingerprint[:6], 16) / 16**6
    top1 = min(0.2 + _COSTS.estimate(job.architecture, "macs").value / 2e8 + 0.1 * own, 1.0)
    for epoch in range(job.start_epoch + 1, job.stop_epoch + 1):
        engine.report(job, EpochRecord(epoch, {"top1": top1, "loss": 1.0}, 0.1, 1.0))
    engine.finish(job, Outcome("reached"))


def due(engine: Engine) -> Job:
    """The next job. `Engine.next` may return None, because a call looks at a bounded number of proposals."""
    while (job := engine.next()) is None:
        assert not engine.done, engine.summary()
    return job


def memory() -> float:
    """Resident memory of this process, MiB."""
    fields = Path("/proc/self/status").read_text().split("VmRSS:")[1].split()
    return int(fields[0]) / 1024


def grow(run: Path, trials: int) -> list[list[str]]:
    """Completes a run of random proposals. Slopes are over its second half, after one-time allocations."""
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
    """Opens a run with the default sampler and asks for proposals, which are not trained."""
    space = parse_space(_SPACE)
    began = time.perf_counter()
    with opened(run, "default", trials + 2 * ASKED) as (engine, journal):
        ready = time.perf_counter() - began
        # The first proposal reads all trials.
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


def jobs(run: Path, trials: int, folder: Path) -> list[list[str]]:
    """Opens copies of a run and trains `JOBS` random proposals, with and without early stopping."""
    rows = []
    for stopping in ("none", "mo_asha"):
        copy = folder / stopping
        shutil.copytree(run, copy)
        with opened(copy, "random", trials + 2 * JOBS, stopping) as (engine, _):
            train(engine, due(engine))  # the first proposal reads all trials
            spent = processor(lambda: train(engine, due(engine)), JOBS)
            summary = processor(engine.summary, JOBS)
        rows += [
            [f"a job at {trials:,} trials, random proposals, `stopping: {stopping}`, ms", f"{1e3 * spent:.1f}"],
            ["`Engine.summary` then, ms", f"{1e3 * summary:.2f}"],
        ]
    return rows


def read(run: Path) -> list[list[str]]:
    """Reads a grown run as the commands do."""
    rows = []
    for name, command in _COMMANDS.items():
        with uncollected():
            spent = processor(lambda: command(*open_run(run)))  # noqa: B023  # called at once
        rows.append([f"`nas {name}`, s", f"{spent:.2f}"])
    return [*rows, ["memory of it all, MiB", f"{memory():.0f}"]]


def board(run: Path, folder: Path) -> list[list[str]]:
    """Draws a grown run's TensorBoard files from nothing, in the turns of a resumed search."""
    copy = folder / "drawn"
    shutil.copytree(run, copy)
    with opened(copy, "random", 1) as (engine, journal):
        drawing = Drawing(open_run(copy)[0], engine.reference, Console(quiet=True))
        before, turns, counts = memory(), list[float](), [0]
        threads = files = 0
        while len(counts) == 1 or counts[-1] > counts[-2]:
            turns.append(processor(lambda: drawing.draw(journal.study)))
            counts.append(len(list((copy / names.TENSORBOARD).glob("trial-*"))))
            threads, files = (
                max(most, len(list(Path("/proc/self", what).iterdir())))
                for most, what in ((threads, "task"), (files, "fd"))
            )
        used = memory() - before
    return [
        [f"TensorBoard files of {counts[-1]:,} trials, s", f"{sum(turns):.1f}"],
        [f"its {len(turns)} turns, ms: quartiles", quartiles(turns)],
        ["memory for it, MiB; threads; open files", f"{used:.0f}; {threads}; {files}"],
    ]


def busy(run: Path, workers: int, waves: int) -> list[list[str]]:
    """Trials that wait for `SECONDS`: their total time, compared with workers that are never idle."""
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
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def processor(call: Callable[[], object], calls: int = 1) -> float:
    """Seconds of processor time that a call takes; the mean of several."""
    began = time.process_time()
    for _ in range(calls):
        call()
    return (time.process_time() - began) / calls


def quartiles(seconds: Sequence[float]) -> str:
    """Quartiles in milliseconds."""
    return " / ".join(f"{1e3 * quartile:.1f}" for quartile in statistics.quantiles(seconds, n=4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--waves", type=int, default=16, help="trials per worker")
    parser.add_argument("--parts", nargs="+", default=list(_PARTS), choices=_PARTS)
    parser.add_argument(
        "--run", type=Path, metavar="FOLDER", help="keep the run of `grow` in this folder, or use the one there"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the text between the marks in this file")
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
                # A copy, because its proposals are never trained.
                copy = Path(folder) / "resumed"
                shutil.copytree(grown, copy)
                found = resume(copy, arguments.trials)
            elif part == "jobs":
                found = jobs(grown, arguments.trials, Path(folder))
            elif part == "read":
                found = read(grown)
            elif part == "board":
                found = board(grown, Path(folder))
            else:
                found = busy(Path(folder) / "busy", arguments.workers, arguments.waves)
            for row in found:
                lines.append("| " + " | ".join(row) + " |")
                print(lines[-1], flush=True)
    if arguments.write is not None:
        write_between("\n".join(lines), "benchmarks/engine.py", arguments.write)


if __name__ == "__main__":
    main()
