"""Tests a private Ray session: its folder (without Ray), access to it and its token, and what its workers import."""

import json
import os
import select
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from launch.errors import UserError
from launch.ray import driver, internals, private
from launch.ray.connection import connected
from launch.ray.private import private_folder
from launch.rundir import names
from launch.rundir.beginning import begin
from launch.rundir.config import Resources, RunConfig
from nas.search import Engine, Journal
from search_spaces import load_space
from trainers import load_data


def starts_ray(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a test that shares the session below."""
    return pytest.mark.slow(pytest.mark.timeout(600)(pytest.mark.xdist_group("killed")(test)))


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a short name, in which private folders are created."""
    found = Path(tempfile.mkdtemp(dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(found))
    yield found
    shutil.rmtree(found)


def test_its_folder_is_private_and_removed_at_the_end(base: Path) -> None:
    with private_folder() as (folder, token):
        assert folder.parents[1] == token.parents[1] == base
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(token.stat().st_mode) == 0o600
        assert len(token.read_text()) == 64
    assert list(base.iterdir()) == []


def test_a_long_tmpdir_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a Unix socket has at most 107 characters, and some sites set long folders."""
    long = tmp_path / ("long" * 15)
    long.mkdir()
    monkeypatch.setenv("RAY_TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with private_folder() as (folder, _):
        session = folder / "session_2026-11-28_19-26-18_369335_4194304" / "sockets"
        session.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(session / "plasma_store"))
    assert list(long.iterdir()) == []


def test_where_no_folder_is_short_enough_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "_LONGEST", 3)
    with pytest.raises(UserError, match="set RAY_TMPDIR to such a folder") as raised, private_folder():
        pass
    assert len(str(raised.value).splitlines()) == 1


KILLED = """
import os, signal, subprocess, sys
from launch.ray.private import private_folder
with private_folder() as (folder, _):
    with (folder / "agent.log").open("w") as log:
        agent = subprocess.Popen(["sleep", "600"], stdout=log, stderr=log)
    print(folder.parent, agent.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_only_the_session_of_a_killed_driver_is_ended(base: Path) -> None:
    out = subprocess.run([sys.executable, "-c", KILLED], capture_output=True, text=True, check=False).stdout.split()
    left, agent = Path(out[0]), int(out[1])
    handle = os.pidfd_open(agent)
    other = base / "nas-of-somebody"
    other.mkdir()
    with private_folder() as (at_work, _):  # ended by this one already
        assert not left.exists()
        assert select.select([handle], [], [], 10)[0]  # it has ended
        with (at_work / "agent.log").open("w") as log, subprocess.Popen(["sleep", "600"], stdout=log) as agent_at_work:
            with private_folder():
                assert at_work.is_dir()
                assert agent_at_work.poll() is None
            agent_at_work.kill()
    os.close(handle)
    assert list(base.iterdir()) == [other]


# --- a session, which these tests share

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same in IPv6, and ::1, as /proc/net has them."""
MARKER = "no-log-may-hold-this"
TINY = {
    "data": {"name": "shapes", "train_size": 16, "val_size": 16},
    "trainer": {"epochs": 1, "batch_size": 16, "warmup_epochs": 0},
    "objectives": ["top1", "macs"],
    "search": {"trials": 1, "sampler": "random", "decide": 0},
    "resources": {"workers": 1},
}
USERS_OWN = ("trainers.py", "nas/__init__.py")


@pytest.fixture(scope="module")
def session() -> Iterator[Path]:
    """The folder of a private Ray session, started in a folder where the user's modules have our packages' names."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir="/tmp") as base:
        user = Path(base, "user")
        for name in USERS_OWN:
            (user / name).parent.mkdir(parents=True, exist_ok=True)
            (user / name).write_text("")
        patch.chdir(user)
        for name in (*internals.SECRETS, "HF_TOKEN"):
            patch.setenv(name, MARKER)
        patch.setenv("RAY_TMPDIR", base)
        with connected(Resources(workers=1)):
            (folder,) = Path(base).glob("nas-*")
            yield folder
        assert not folder.exists()


def links(pid: str) -> list[Path]:
    """The open files of a process; none if it has ended or belongs to another user."""
    try:
        return [link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()]
    except OSError:
        return []


def listening(folder: Path) -> set[tuple[str, int]]:
    """(address, port) of the TCP sockets on which processes listen that have a file of the folder open."""
    open_files = {entry.name: links(entry.name) for entry in Path("/proc").glob("[0-9]*")}
    of_session = [found for found in open_files.values() if any(link.is_relative_to(folder) for link in found)]
    sockets = {str(link) for found in of_session for link in found}
    rows = [
        line.split() for table in ("tcp", "tcp6") for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    ]
    ends = [row[1].split(":") for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]
    return {(address, int(port, 16)) for address, port in ends}


@starts_ray
def test_a_private_ray_listens_on_loopback(session: Path) -> None:
    sockets = listening(session)
    assert len(sockets) >= 4
    assert {address for address, _ in sockets} <= LOOPBACK


CONNECT = """
import socket, sys
for port in sys.argv[1:]:
    with socket.socket() as end:
        end.settimeout(2)
        if end.connect_ex(("10.78.9.1", int(port))) == 0:
            print(port)
"""


@pytest.fixture
def elsewhere() -> Iterator[list[str]]:
    """A function that runs a command in a separate network, which reaches this one at 10.78.9.1."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a network namespace needs the rights of root and the command ip")
    name = f"nas{os.getpid()}"
    lines = (
        f"netns add {name}",
        f"link add {name} type veth peer name eth0 netns {name}",
        f"address add 10.78.9.1/24 dev {name}",
        f"link set {name} up",
        f"-n {name} address add 10.78.9.2/24 dev eth0",
        f"-n {name} link set eth0 up",
    )
    try:
        for line in lines:
            done = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"network namespaces are not permitted here: ip {line}: {done.stderr.strip()}")
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)


@starts_ray
def test_another_network_reaches_nothing_of_it(session: Path, elsewhere: list[str]) -> None:
    with socket.create_server(("10.78.9.1", 0)) as open_to_all:
        open_port = open_to_all.getsockname()[1]
        ports = [str(port) for port in (open_port, *(port for _, port in listening(session)))]
        command = [*elsewhere, sys.executable, "-c", CONNECT, *ports]
        reached = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert reached == [str(open_port)]


@starts_ray
def test_another_user_cannot_read_its_token(session: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("to be another user needs the rights of root and the command setpriv")
    command = ["setpriv", "--reuid=65534", "--clear-groups", "cat", str(session / "token")]
    look = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (look.returncode, look.stdout) == (1, "")
    assert "Permission denied" in look.stderr


@starts_ray
def test_its_workers_import_what_the_driver_imported(session: Path) -> None:
    import ray

    import nas
    import trainers

    def files() -> list[str | None]:
        import nas.search
        import trainers

        return [nas.__file__, trainers.__file__]

    assert ray.get(ray.remote(files).remote()) == [nas.__file__, trainers.__file__]


def test_every_secret_that_tune_hands_on_is_known() -> None:
    from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

    assert {name for name in ENV_VARS_TO_PROPAGATE if {"KEY", "SECRET", "TOKEN"} & set(name.split("_"))} == set(
        internals.SECRETS
    )


@starts_ray
def test_no_secret_of_the_environment_is_in_its_logs(session: Path) -> None:
    """Starts a worker in the same way as Tune."""
    import ray
    from ray.tune.execution.class_cache import _ActorClassCache

    class Worker:
        def secrets(self) -> list[str]:
            return sorted(set(internals.SECRETS) & set(os.environ))

    assert ray.get(_ActorClassCache().get(Worker).remote().secrets.remote()) == []
    files = [path for path in session.rglob("*") if path.is_file()]
    assert any("runtime_env" in path.name and b"PL_DISABLE_FORK" in path.read_bytes() for path in files)
    assert [path for path in files if MARKER.encode() in path.read_bytes()] == []


@starts_ray
def test_a_search_writes_no_secret_of_the_environment_to_a_file(
    session: Path, tmp_path: Path, make_engine: Callable[..., Engine]
) -> None:
    """One trial, driven as `nas search` does it, in the session above."""
    config = RunConfig.model_validate_json(json.dumps(TINY))
    run = begin(tmp_path / "run", config, load_space("shapes"))
    with Journal.open(run.folder) as journal:
        engine = make_engine(journal, run, baselines={"plain": run.space.plain()})
        plan = driver.Plan(run.folder, load_data(config.data), config.trainer, config.resources)
        driver.run(engine, plan, lambda: None)
        assert engine.summary().complete == 1
    assert os.environ["HF_TOKEN"] == MARKER
    files = [path for folder in (run.folder, session) for path in folder.rglob("*") if path.is_file()]
    assert {run.folder / names.JOURNAL, session / "token"} <= set(files)
    assert [path for path in files if MARKER.encode() in path.read_bytes()] == []


KEYS = """
import sys
from ray._raylet import GcsClient
print(GcsClient(address=sys.argv[1]).internal_kv_keys(b"", namespace=b"session", timeout=10))
"""


@starts_ray
def test_it_answers_only_to_its_token(session: Path) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    without = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    tokens = ({"RAY_AUTH_TOKEN_PATH": str(session / "token")}, {"RAY_AUTH_TOKEN": 64 * "0"})
    codes = []
    for token in tokens:
        environment = {**without, "RAY_AUTH_MODE": "token", **token}
        command = [sys.executable, "-c", KEYS, address]
        codes.append(subprocess.run(command, env=environment, capture_output=True, check=False).returncode)
    assert codes == [0, 1]
