"""Uses of Ray's private names, each with its reason. For Ray 2.60."""

import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TypedDict

import ray
from ray._private import ray_constants, services
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray._private.authentication.authentication_token_setup import AuthenticationTokenLoader, Config
from ray._private.state import available_resources_per_node
from ray._raylet import GcsClient  # type: ignore[attr-defined]  # compiled
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get
from ray.job_config import JobConfig

import launch

OURS = Path(launch.__file__).parents[1]
"""The folder from which our packages are imported."""


SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""Variables that Tune copies into every worker's runtime environment, which Ray's agent logs in clear text
(`ray.tune.execution.class_cache`). No worker needs them: data and runs are in file systems."""

_ANSWER_S = 10.0
"""Time for a cluster's first node to take a connection."""


class Quiet(TypedDict):
    """Arguments of `ray.init` that keep it from printing."""

    log_to_driver: bool
    logging_level: int


def connect(address: str, quiet: Quiet) -> None:
    """Connects to a cluster.

    Ray itself would try for minutes to reach an address at which nothing answers, so this looks first.

    Raises:
        ValueError: this is no address.
        OSError: nothing answers there.
        Exception: what answers is not a Ray that takes this client. Ray raises many types, bare `Exception` among them.
    """
    located = services.canonicalize_bootstrap_address_or_die(address)
    host, port = services.extract_ip_port(located)
    socket.create_connection((host, port), timeout=_ANSWER_S).close()
    GcsClient(address=located)
    with _imports_as_here() as job:
        ray.init(address=address, job_config=job, **quiet)


def start(folder: Path, token: Path, cpus: int | None, gpus: int | None, quiet: Quiet) -> None:
    """Starts a Ray on loopback and connects to it.

    Args:
        folder: For its sockets and logs. Ray opens it to all users, so its parent folder must keep them out.
        token: The file with the token that every client needs.
        cpus: Its CPUs; None is all CPUs of this machine.
        gpus: Likewise.
        quiet: See `Quiet`.

    Raises:
        Exception: Ray did not start.
    """
    with environment({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": str(token)}):
        reread_token()
        # `_node_ip_address` alone is not enough: Ray replaces a loopback address by the network card's address, unless
        # clusters are disabled (the default on macOS). Then its servers listen on loopback.
        before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
        try:
            with _imports_as_here() as job:
                ray.init(
                    "local",  # otherwise Ray would first try a stale address file of another cluster
                    num_cpus=cpus,
                    num_gpus=gpus,
                    include_dashboard=False,
                    job_config=job,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=str(folder),
                    **quiet,
                )
        finally:
            ray_constants.ENABLE_RAY_CLUSTER = before


def reread_token() -> None:
    """Makes Ray read the environment's `RAY_AUTH_...` again. By default it reads them once per process."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def free_resources() -> Mapping[str, Mapping[str, float]]:
    """Node id -> its free resources; Ray's public function sums over all nodes."""
    free: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    return free


def gpu_kind() -> str | None:
    """The kind of this machine's GPU, by Ray's name for it; None without a GPU."""
    manager = get_accelerator_manager_for_resource("GPU")
    kind = None if manager is None else manager.get_current_node_accelerator_type()
    return None if kind is None else str(kind)


def node_types() -> set[str]:
    """The node types of the connected cluster, by the autoscaler's names; empty until its first report."""
    if is_autoscaler_v2(fetch_from_server=True):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        seen = (*status.active_nodes, *status.idle_nodes, *status.pending_nodes)
        return {node.ray_node_type_name for node in seen}
    report = json.loads(_internal_kv_get("__autoscaling_status") or "{}").get("autoscaler_report") or {}
    return {*(report.get("active_nodes") or ()), *(report.get("idle_nodes") or ())}


@contextmanager
def _imports_as_here() -> Iterator[JobConfig]:
    """A job configuration that makes workers import the same modules as this process.

    Ray puts the current folder first on its workers' path: a user's `trainers.py` there would hide ours. So Ray is
    called in our own folder. This process's folders follow in their order.
    """
    path = [str(Path(entry).absolute()) for entry in sys.path]
    with chdir(OURS):
        yield JobConfig(_py_driver_sys_path=path[::-1])  # Ray puts each entry before the earlier ones


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Sets environment variables inside the block; None removes one."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
