"""How busy a search keeps a cluster, with the real driver and engine, simulated GPUs, and trials that sleep.

    python benchmarks/cluster.py                                  # all parts: ten minutes, 16 GiB of memory
    python benchmarks/cluster.py --parts gpus --trials 200 --write docs/cluster.md
    python benchmarks/cluster.py --parts change --nodes 2 --gpus 2 --trials 40

gpus     one trial on each GPU
shares   two trials on each GPU
change   as `gpus`; a node is killed after a third of the trials, and another is added after the second third

A place is where one trial can run. Ideally every place sleeps all the time: a share of 1 is `places / seconds of a
trial` trials per second. Between two trials of a place come the result's way to the driver, the journal, the engine's
next proposal, and the job's way to the worker; between two epochs, only the way to the driver and back. The share
counts the epochs in the journal, from the time when every place has begun its first epoch (processes start slowly, but
only once) to the begin of the last trial (after that, places are idle). `change` splits this time where nodes change.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import optuna
from _side_by_side import write_between
from ray.cluster_utils import Cluster

from launch.ray import connection, driver
from launch.rundir.config import Resources
from nas.costs import Conditions, CostModel
from nas.search import Engine, Journal, Objective, SearchConfig, read_trials
from search_spaces import load_space

OBJECTIVES = (Objective("top1", "maximize"), Objective("macs", "minimize"))
EPOCHS = 3

Tick = Callable[[Engine], None]

_PARTS = ("gpus", "shares", "change")
_PER_GPU = {"gpus": 1, "shares": 2}


def sleeper(epoch_s: float) -> type[Any]:
    """A worker that sleeps. The class is local to a function, so that Ray sends it to the nodes by value."""
    from ray import get_runtime_context, tune  # noqa: PLC0415

    class Sleeper(tune.Trainable):
        def setup(self, config: dict[str, Any], **_shared: object) -> None:
            self.reset_config(config)

        def reset_config(self, new_config: dict[str, Any]) -> bool:
            self.job = json.loads(new_config["job"])
            self.epoch = self.job["start_epoch"]
            return True

        def step(self) -> dict[str, Any]:
            time.sleep(epoch_s)
            self.epoch += 1
            record = {
                "epoch": self.epoch,
                "metrics": {"top1": 0.5 + 0.001 * (self.job["number"] * 37 % 101), "loss": 1.0},
                "lr": 0.1,
                "seconds": epoch_s,
                "worker": int(get_runtime_context().get_actor_id(), 16),
                "ended": time.time(),
            }
            done = self.epoch >= self.job["stop_epoch"]
            report = {"record": record, "outcome": {"kind": "reached"} if done else None}
            return {"payload": json.dumps(report), "done": done}

    return Sleeper


@dataclass(frozen=True)
class Slept:
    """An epoch: its trial and worker, and when it began and ended (seconds since 1970)."""

    trial: int
    worker: str
    began: float
    ended: float


def work(
    folder: Path, address: str, gpus_per_trial: float, arguments: argparse.Namespace, on_tick: Tick
) -> list[Slept]:
    """A search by the real engine and driver; `on_tick` is called in every loop, up to dozens of times a second."""
    driver.Worker = sleeper(arguments.epoch)
    trials = arguments.trials
    resources = Resources(gpus_per_trial=gpus_per_trial, address=address)
    config = SearchConfig.model_validate({"trials": trials, "sampler": arguments.sampler, "stopping": "none"})
    directions, metrics = [o.direction for o in OBJECTIVES], [o.metric for o in OBJECTIVES]
    with Journal.create(folder, directions, metrics, {}) as journal, connection.connected(resources):
        space, costs = load_space("cifar-resnet"), CostModel(Conditions())
        engine = Engine(journal, space, config, objectives=OBJECTIVES, epochs=EPOCHS, costs=costs)
        plan = driver.Plan(folder, cast(Any, None), cast(Any, None), resources)
        driver.run(engine, plan, lambda: on_tick(engine))
        found = [trial for trial in read_trials(journal.study) if trial.plan is not None]
    # No epoch is lost or counted twice.
    assert len(found) == trials
    assert all(trial.status == "complete" and sorted(trial.epochs) == [1, 2, 3] for trial in found)
    return [
        Slept(trial.number, str(record.worker), cast(float, record.ended) - record.seconds, cast(float, record.ended))
        for trial in found
        for record in trial.epochs.values()
    ]


def all_at_work(epochs: Sequence[Slept], places: int, since: float = 0.0) -> float:
    """The time at which `places` workers have begun an epoch, counting epochs that begin after `since`."""
    first: dict[str, float] = {}
    for epoch in sorted(epochs, key=lambda epoch: epoch.began):
        if epoch.began >= since:
            first.setdefault(epoch.worker, epoch.began)
    return sorted(first.values())[places - 1]


def last_begun(epochs: Sequence[Slept]) -> float:
    """The time at which the last trial began."""
    first: dict[int, float] = {}
    for epoch in epochs:
        first[epoch.trial] = min(epoch.began, first.get(epoch.trial, epoch.began))
    return max(first.values())


def share(epochs: Sequence[Slept], places: int, since: float, until: float) -> str:
    """The share of the time between `since` and `until` that `places` slept, with the length of that time."""
    slept = sum(max(0.0, min(epoch.ended, until) - max(epoch.began, since)) for epoch in epochs)
    return f"{slept / (places * (until - since)):.3f} over {until - since:.0f} s"


@contextmanager
def standing(nodes: int, gpus: int, places: int) -> Iterator[Cluster]:
    """A cluster of a head node that runs no trials, and `nodes` other nodes."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            cluster.add_node(num_cpus=places, num_gpus=gpus)
        yield cluster
    finally:
        cluster.shutdown()


def steady(folder: Path, arguments: argparse.Namespace, per_gpu: int) -> list[list[str]]:
    """The share while nothing changes."""
    places = arguments.nodes * arguments.gpus * per_gpu
    with standing(arguments.nodes, arguments.gpus, arguments.gpus * per_gpu) as cluster:
        began = time.time()
        epochs = work(folder, cluster.address, 1 / per_gpu, arguments, lambda _: None)
    ready, last = all_at_work(epochs, places), last_begun(epochs)
    what = f"{arguments.nodes} x {arguments.gpus} GPUs, {places} trials at once, {arguments.trials} in all"
    return [
        [f"{what}: share of the ideal throughput", share(epochs, places, ready, last)],
        ["the same from the first epoch's begin to the last one's end", share(epochs, places, *extent(epochs))],
        ["seconds from the start until every place is at work", f"{ready - began:.0f}"],
    ]


def extent(epochs: Sequence[Slept]) -> tuple[float, float]:
    return min(epoch.began for epoch in epochs), max(epoch.ended for epoch in epochs)


def change(folder: Path, arguments: argparse.Namespace) -> list[list[str]]:
    """The shares before a node is killed, while it is missing, and after another was added."""
    gpus, full = arguments.gpus, arguments.nodes * arguments.gpus
    moments: list[float] = []
    # Neither change may block the driver's loop. Only a main thread can start Ray's processes, so `come` runs `ray`.
    line = [Path(sys.executable).parent / "ray", "start", "--block", f"--num-cpus={gpus}", f"--num-gpus={gpus}"]
    with standing(arguments.nodes, gpus, gpus) as cluster, ExitStack() as stack:
        going = list(cluster.worker_nodes)[-1]

        def go() -> None:
            threading.Thread(target=cluster.remove_node, args=(going, False)).start()

        def come() -> None:
            coming = subprocess.Popen([*line, f"--address={cluster.address}"], stdout=subprocess.DEVNULL)
            stack.callback(coming.wait)
            stack.callback(coming.terminate)

        steps = [(2 / 3, come), (1 / 3, go)]

        def on_tick(engine: Engine) -> None:
            if steps and engine.summary().complete >= steps[-1][0] * arguments.trials:
                moments.append(time.time())
                steps.pop()[1]()

        epochs = work(folder, cluster.address, 1, arguments, on_tick)
    ready, last, (gone, asked) = all_at_work(epochs, full), last_begun(epochs), moments
    known = {epoch.worker for epoch in epochs if epoch.began < asked}
    new = [epoch for epoch in epochs if epoch.worker not in known]
    back = all_at_work(new, gpus)
    return [
        [f"{full} places: share of the ideal throughput", share(epochs, full, ready, gone)],
        [f"a node is killed, {full - gpus} places are left", share(epochs, full - gpus, gone, asked)],
        [f"a node is added, {full} places again", share(epochs, full, back, last)],
        ["seconds from asking for the node until all of it is at work", f"{back - asked:.0f}"],
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(_PARTS), choices=_PARTS)
    parser.add_argument("--nodes", type=int, default=4)
    parser.add_argument("--gpus", type=int, default=8, help="GPUs of each node")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument(
        "--epoch", type=float, default=3.0, metavar="SECONDS", help="length of an epoch; a trial has three"
    )
    parser.add_argument("--sampler", default="default", help="with random, Ray takes nearly all of the overhead")
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the text between the marks in this file")
    arguments = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    lines = ["| figure | |", "|---|---:|"]
    print(*lines, sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as root:
        for part in arguments.parts:
            folder = Path(root) / part
            found = change(folder, arguments) if part == "change" else steady(folder, arguments, _PER_GPU[part])
            for row in found:
                lines.append("| " + " | ".join(row) + " |")
                print(lines[-1], flush=True)
    if arguments.write is not None:
        write_between("\n".join(lines), "benchmarks/cluster.py", arguments.write)


if __name__ == "__main__":
    main()
