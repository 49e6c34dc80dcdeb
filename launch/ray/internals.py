"""All that Ray has no public name for, each with the reason. As it is in Ray 2.60."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TypedDict

import ray
from ray._private import ray_constants
from ray._private.accelerators import get_accelerator_manager_for_resource
from ray._private.authentication.authentication_token_setup import AuthenticationTokenLoader, Config
from ray._private.state import available_resources_per_node
from ray.autoscaler.v2.sdk import get_cluster_status
from ray.autoscaler.v2.utils import is_autoscaler_v2
from ray.experimental.internal_kv import _internal_kv_get
from ray.job_config import JobConfig

import launch

OURS = Path(launch.__file__).parents[1]
"""The folder that our packages are imported from."""


SECRETS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")
"""What Tune copies from the environment into the runtime environment of every worker, which Ray's agent logs in clear
(`ray.tune.execution.class_cache`). No worker needs them: data and runs lie in file systems."""


class Quiet(TypedDict):
    """What `ray.init` is told so that it prints nothing."""

    log_to_driver: bool
    logging_level: int


def connect(address: str, quiet: Quiet) -> None:
    """Connects to a cluster."""
    with _imports_as_here() as job:
        ray.init(address=address, job_config=job, **quiet)


def start(folder: Path, token: Path, cpus: int | None, gpus: int | None, quiet: Quiet) -> None:
    """Starts a Ray on loopback and connects to it.

    Args:
        folder: For its sockets and logs. Ray opens it to all users: a folder around it has to keep them out.
        token: The file of the token without which it lets nobody in.
        cpus: What it has; None is all of this machine's.
        gpus: Likewise.
        quiet: As `Quiet` has it.

    Raises:
        Exception: It did not come up.
    """
    with environment({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": None, "RAY_AUTH_TOKEN_PATH": str(token)}):
        reread_token()
        # `_node_ip_address` alone is not enough: Ray replaces a loopback address by the network card's, unless it is
        # told that it is not to form clusters, as it is by default on macOS. Its servers then listen on loopback.
        before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
        try:
            with _imports_as_here() as job:
                ray.init(
                    "local",  # or a stale address file of another cluster would be tried first
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
    """Lets this process see the environment's `RAY_AUTH_...` as they are now: Ray reads them once a process."""
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()


def free_resources() -> Mapping[str, Mapping[str, float]]:
    """Node id -> what of its resources nobody has; the public function sums over all nodes."""
    free: Mapping[str, Mapping[str, float]] = available_resources_per_node()
    return free


def gpu_kind() -> str | None:
    """The kind of this machine's GPU, as a Ray node on it would say it; None without one."""
    manager = get_accelerator_manager_for_resource("GPU")
    kind = None if manager is None else manager.get_current_node_accelerator_type()
    return None if kind is None else str(kind)


def node_types() -> set[str]:
    """The types of the connected cluster's nodes, as its autoscaler calls them; empty until it has reported."""
    if is_autoscaler_v2(fetch_from_server=True):
        status = get_cluster_status(ray.get_runtime_context().gcs_address)
        seen = (*status.active_nodes, *status.idle_nodes, *status.pending_nodes)
        return {node.ray_node_type_name for node in seen}
    report = json.loads(_internal_kv_get("__autoscaling_status") or "{}").get("autoscaler_report") or {}
    return {*(report.get("active_nodes") or ()), *(report.get("idle_nodes") or ())}


@contextmanager
def _imports_as_here() -> Iterator[JobConfig]:
    """What to connect with, so that workers import what this process does.

    Ray puts the folder in which it is called before all others on its workers' path: a `trainers.py` of the user's
    would hide ours. So it is called in our own, and behind that come this process's folders in their order.
    """
    path = [str(Path(entry).absolute()) for entry in sys.path]
    with chdir(OURS):
        yield JobConfig(_py_driver_sys_path=path[::-1])  # each goes before those that came earlier


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """Variables of the environment as given, inside; None: not there."""
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
