"""A search on three hosts: network namespaces with addresses of their own, joined by a bridge, a Ray node in each.

One host is cut off for a minute, as by a pulled cable, and another dies. The file system is shared, as it has to be.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from launch.run import open_run

pytestmark = pytest.mark.slow

HOSTS = ("a", "b", "c")
CUT_OFF_S, LIMIT_S = 60, 400
PORT = 6379
RUN_FILE = {
    "space": "shapes",
    "data": {"name": "shapes", "train_size": 640, "val_size": 160},
    "trainer": {"epochs": 8, "batch_size": 32},
    "objectives": ["top1", "macs"],
    "search": {"trials": 32, "sampler": "random", "eta": 2, "finalists": 0, "finalist_seeds": 0},
}

# What a site's supervisor does: a node that Ray has given up on starts anew.
NODE = "hostname {host}; while true; do {ray} start --block {where} --node-ip-address={ip} --num-cpus=1; sleep 1; done"


def ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


@dataclass
class Network:
    """Hosts by name; `prefix` keeps their namespaces apart from those of others."""

    prefix: str

    def space(self, host: str) -> str:
        return f"{self.prefix}-{host}"

    def address(self, host: str) -> str:
        return f"10.77.0.{1 + HOSTS.index(host)}"

    def start(self, host: str, *command: str) -> "subprocess.Popen[str]":
        """A command on a host, under the host's own name, in a session of its own."""
        line = ["ip", "netns", "exec", self.space(host), "unshare", "--uts", *command]
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        return subprocess.Popen(
            line, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )

    def cable(self, host: str, state: str) -> None:
        ip("-n", self.space("switch"), "link", "set", host, state)

    def kill(self, host: str) -> None:
        """Power off: whatever runs there, and whatever it starts meanwhile."""
        while pids := ip("netns", "pids", self.space(host)).split():
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            time.sleep(0.1)


@pytest.fixture
def network() -> Iterator[Network]:
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need the command ip and the rights of root")
    net = Network(f"nas{os.getpid()}")
    spaces = [net.space(name) for name in (*HOSTS, "switch")]
    try:
        try:
            for space in spaces:
                ip("netns", "add", space)
                ip("-n", space, "link", "set", "lo", "up")
            ip("-n", net.space("switch"), "link", "add", "bridge", "type", "bridge")
            ip("-n", net.space("switch"), "link", "set", "bridge", "up")
            for host in HOSTS:
                ends = ("eth0", "netns", net.space(host), "type", "veth", "peer", "name", host)
                ip("link", "add", *ends, "netns", net.space("switch"))
                ip("-n", net.space(host), "address", "add", f"{net.address(host)}/24", "dev", "eth0")
                ip("-n", net.space(host), "link", "set", "eth0", "up")
                ip("-n", net.space("switch"), "link", "set", host, "master", "bridge", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not permitted here: {error.stderr.strip()}")
        yield net
    finally:
        for host in HOSTS:
            if Path("/run/netns", net.space(host)).exists():
                net.kill(host)
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space], check=False, capture_output=True)


def wait_until(condition: Callable[[], bool], search: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert search.poll() is None, search.communicate()[0]
        assert time.monotonic() < deadline, "the search does not get on"
        time.sleep(0.1)


def test_a_host_is_cut_off_and_another_dies_and_the_run_ends_complete(network: Network, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(json.dumps(RUN_FILE))
    run, ray = tmp_path / "run", str(Path(sys.executable).parent / "ray")
    head = f"{network.address('a')}:{PORT}"
    for host in HOSTS:
        where = f"--head --port={PORT} --include-dashboard=false" if host == "a" else f"--address={head}"
        line = NODE.format(host=f"host-{host}", ray=ray, where=where, ip=network.address(host))
        network.start(host, "sh", "-c", f"{{ {line} ; }} > {tmp_path}/{host}.log 2>&1")
    line = f"hostname host-a; sleep 20; exec {sys.executable} -m launch.cli search run.yaml --run run --address {head}"
    search = network.start("a", "sh", "-c", f"cd {tmp_path}; {line}")

    def told(host: str) -> int:
        journal = run / "journal.log"
        return journal.read_text(errors="replace").count(f'"host-{host}"') if journal.exists() else 0

    wait_until(lambda: all(told(host) >= 2 for host in HOSTS), search)
    network.cable("b", "down")
    time.sleep(CUT_OFF_S)
    assert search.poll() is None, search.communicate()[0]
    network.cable("b", "up")
    network.kill("c")
    before = told("b")
    wait_until(lambda: told("b") > before, search)  # it is back at work
    out, _ = search.communicate(timeout=LIMIT_S)
    assert search.returncode == 0, out

    _, trials = open_run(run)
    trained = [trial for trial in trials if trial.plan is not None]
    assert len(trained) == RUN_FILE["search"]["trials"]  # type: ignore[index]
    assert {trial.status for trial in trained} <= {"complete", "stopped"}
    assert all(sorted(trial.epochs) == list(range(1, trial.last_epoch + 1)) for trial in trained)
