"""A search on three hosts with one switch: each has its own network, processes, name and Ray node.

One host is disconnected until it counts as lost; another loses its power. They share the file system, as required.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from launch.ray.note import left
from launch.rundir.run import open_run
from nas.search import TrialRecord

pytestmark = [
    pytest.mark.slow,
    pytest.mark.repeated,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("clusters"),
]

HOSTS = {"host-a": "10.77.0.1", "host-b": "10.77.0.2", "host-c": "10.77.0.3"}
HEAD = f"{HOSTS['host-a']}:6379"
LIMIT_S = 600
TRIALS, EPOCHS = 16, 3
RUN_FILE = {
    "space": "shapes",
    "data": {"name": "shapes", "train_size": 160, "val_size": 80},
    "trainer": {"epochs": EPOCHS, "batch_size": 32},
    "objectives": ["top1", "macs"],
    "search": {"trials": TRIALS, "sampler": "random", "stopping": "none", "decide": 0},
}

# `nas search`. Until a file `over` exists, epochs take at least three seconds, so that hosts fail during the search.
# While a file `hold` exists, epochs end only on the host that it names.
SEARCH = """
import socket, sys, time
from pathlib import Path
from launch import cli
from launch.ray import driver

hold, over = Path("hold").absolute(), Path("over").absolute()

def held():
    try:
        return hold.read_text() != socket.gethostname()
    except FileNotFoundError:
        return False

class Paced(driver.Worker):
    def step(self):
        time.sleep(0 if over.exists() else 3)
        while held():
            time.sleep(0.2)
        return super().step()

driver.Worker = Paced
cli.main()
"""

OF_RAY = {
    # Its nodes let in who has the token; this one is no secret.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": 8 * "01234567",
    # A silent host counts as lost after about ten seconds instead of a minute.
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}

# A host is a shell that runs the commands written to it. All processes of the host end with it, and it ends with the
# test. Ray keeps the files that exist once per machine in /tmp/ray.
HOST = "setpriv --pdeathsig KILL unshare --net --uts --mount --pid --fork --kill-child --mount-proc sh -e"
HOST_BEGINS = "hostname {name}; ip link set lo up; mkdir -p /tmp/ray; mount --bind {folder} /tmp/ray; set +e; echo up\n"
# When Ray has given up on a node, the node ends, and its supervisor starts another.
NODE = (
    "while true; do {ray} start --block --disable-usage-stats --num-cpus=1 --node-ip-address={ip} {role}; sleep 1; done"
)


@dataclass(frozen=True)
class Host:
    shell: "subprocess.Popen[str]"

    def do(self, line: str) -> None:
        assert self.shell.stdin is not None
        self.shell.stdin.write(f"{line}\n")
        self.shell.stdin.flush()

    def ip(self, line: str) -> None:
        network = f"--net=/proc/{self.shell.pid}/ns/net"
        subprocess.run(["nsenter", network, "ip", *line.split()], check=True, capture_output=True, text=True)

    def power_off(self) -> None:
        self.shell.kill()
        self.shell.communicate()


@contextmanager
def host(name: str, folder: Path) -> Iterator[Host]:
    """A host without a network; skips the test where none can be created."""
    folder.mkdir()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    environment = {**os.environ, **OF_RAY}
    found = Host(subprocess.Popen(HOST.split(), env=environment, text=True, **pipes))
    try:
        found.do(HOST_BEGINS.format(name=name, folder=folder))
        assert found.shell.stdout is not None
        answer = found.shell.stdout.readline()
        if answer != "up\n":
            pytest.skip(f"network namespaces are not permitted here: {answer.strip()}")
        yield found
    finally:
        found.power_off()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[dict[str, Host]]:
    """The hosts by name, and the switch. Each host's cable to the switch has the host's name."""
    needed = "setpriv", "unshare", "nsenter", "hostname", "mount", "ip"
    if missing := [command for command in needed if shutil.which(command) is None]:
        pytest.skip(f"hosts are made by commands that are not there: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("network namespaces that are joined need the rights of root")
    with ExitStack() as stack:
        found = {name: stack.enter_context(host(name, tmp_path / name)) for name in (*HOSTS, "switch")}
        switch = found["switch"]
        switch.ip("link add bridge type bridge")
        switch.ip("link set bridge up")
        for name, address in HOSTS.items():
            switch.ip(f"link add {name} type veth peer name eth0 netns {found[name].shell.pid}")
            switch.ip(f"link set {name} master bridge up")
            found[name].ip(f"address add {address}/24 dev eth0")
            found[name].ip("link set eth0 up")
            found[name].ip("route add default dev eth0")  # Ray uses it to find its own address
        yield found


def trials_of(run: Path) -> list[TrialRecord]:
    return open_run(run)[1] if (run / "journal.log").exists() else []


def epochs_on(run: Path) -> Counter[str]:
    """Host -> epochs that were trained there."""
    return Counter(str(record.node) for trial in trials_of(run) for record in trial.epochs.values())


def hosts_of(run: Path) -> set[str]:
    """The hosts in the driver's latest note."""
    note = left(run)
    assert note is not None
    return {node.host for node in note.nodes}


def test_the_run_survives_a_disconnected_and_a_dead_host(
    network: dict[str, Host], tmp_path: Path, check_complete: Callable[[Path, int], list[TrialRecord]]
) -> None:
    run, hold, over, ended = (tmp_path / name for name in ("run", "hold", "over", "ended"))
    (tmp_path / "run.yaml").write_text(json.dumps(RUN_FILE))
    (tmp_path / "search.py").write_text(SEARCH)
    switch, ray = network["switch"], Path(sys.executable).parent / "ray"

    def wait_until(condition: Callable[[], bool], searching: bool = True) -> None:
        deadline = time.monotonic() + LIMIT_S
        while not condition():
            assert not (searching and ended.exists()), (tmp_path / "search.log").read_text()
            assert time.monotonic() < deadline, f"it does not get on; epochs: {epochs_on(run)}"
            time.sleep(0.5)

    for name, address in HOSTS.items():
        role = "--head --port=6379 --include-dashboard=false" if address in HEAD else f"--address={HEAD}"
        network[name].do(f"({NODE.format(ray=ray, ip=address, role=role)}) > {tmp_path}/{name}.log 2>&1 &")
    nodes = f"{ray} status --address {HEAD}"
    network["host-a"].do(f"until [ $({nodes} 2>/dev/null | grep -c '1 node_') = 3 ]; do sleep 3; done")
    search = f"{sys.executable} search.py search run.yaml --run run --address {HEAD}"
    network["host-a"].do(f"cd {tmp_path}; ({search} > search.log 2>&1; echo $? > ended) &")

    for name in HOSTS:  # or the search could be over before Ray has a process on every host
        hold.write_text(name)
        wait_until(lambda: epochs_on(run)[hold.read_text()] > 0)
    hold.unlink()
    switch.ip("link set host-b down")
    wait_until(lambda: "host-b" not in hosts_of(run))
    before = epochs_on(run)
    assert not ended.exists()
    hold.write_text("host-b")  # or the search could be over before that host's Ray is up again
    switch.ip("link set host-b up")
    switch.ip("link set host-c down")
    network["host-c"].power_off()
    wait_until(lambda: epochs_on(run)["host-b"] > before["host-b"])
    over.touch()
    hold.unlink()
    wait_until(ended.exists, searching=False)
    assert ended.read_text() == "0\n", (tmp_path / "search.log").read_text()

    trained = check_complete(run, TRIALS)
    assert {trial.status for trial in trained} == {"complete"}
    assert all(sorted(trial.epochs) == list(range(1, EPOCHS + 1)) for trial in trained)
