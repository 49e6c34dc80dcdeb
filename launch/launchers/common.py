"""What all launchers ask of a run."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from launch.errors import UserError
from launch.rundir.config import RunConfig
from nas.costs import is_counted
from nas.search import ACCURACY

_SAFE = re.compile(r"(?!-)[\w.,:@%+=/\[\]-]+", re.ASCII)


class _Dumper(yaml.SafeDumper):
    """Block style throughout; a file within the file stands as it is."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def document(data: object) -> str:
    """YAML for the tools of others, in the order of `data`."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=1000)


@dataclass(frozen=True)
class Target:
    """What is started where.

    ``file``: the run file, or the name of one that ships; ``overrides``: its `--set`; ``run``: the run's folder, on a
    file system that all nodes share; ``nodes`` of ``gpus_per_node`` GPUs each.
    """

    file: str
    run: str
    nodes: int
    gpus_per_node: int
    overrides: Sequence[str] = ()

    @property
    def name(self) -> str:
        """Of the job: lower case, digits and hyphens, as the strictest of them (Kubernetes) wants it."""
        stem = self.file.rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")
        return "nas-" + (re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-") or "run")


def check(config: RunConfig, target: Target) -> None:
    """Raises a UserError where the run can never start on such nodes, or not in that folder."""
    if target.nodes < 1 or target.gpus_per_node < 0:
        raise UserError(f"{target.nodes} nodes of {target.gpus_per_node} GPUs are none; give at least one node")
    if "://" in target.run:
        raise UserError(
            f"--run {target.run} is in an object store, and a run needs what only a file system has; give a "
            "folder on one that all nodes share"
        )
    wanted = config.resources.gpus_per_trial
    if wanted > target.gpus_per_node:
        raise UserError(
            f"resources.gpus_per_trial is {wanted:g}, and a node has {target.gpus_per_node} GPUs: no trial would "
            "ever start; give nodes with more GPUs (--gpus-per-node), or trials fewer"
        )


def own_gpu(config: RunConfig, target: Target) -> bool:
    """Whether the driver is to have a GPU that no trial shares: it measures there, and a neighbour would slow it."""
    measured = any(name != ACCURACY and not is_counted(name) for name in (*config.objectives, *config.budget))
    return measured and config.resources.gpus_per_trial > 0 and target.nodes * target.gpus_per_node > 1


def plain(option: str, value: str) -> str:
    """`value`, that goes into a file of another syntax.

    Raises:
        UserError: it holds what could mean something there: spaces, quotes, line ends; or begins as an option does.
    """
    if not _SAFE.fullmatch(value):
        raise UserError(f"{option}: {value!r} may hold letters, digits and . , : @ % + = / [ ] - only, no - first")
    return value


def start_script(search: Sequence[str], run: str, address: str) -> str:
    """A bash script that begins a run, or goes on with it where it is already there (a requeued or retried job).

    ``exec``: the signal that is to stop the job then reaches the search.
    """
    where = ["--address", address]
    return (
        "#!/bin/bash\n"
        f"if {shlex.join(['nas', 'status', run])} > /dev/null 2>&1; then\n"
        f"  exec {shlex.join(['nas', 'resume', run, *where])}\n"
        "fi\n"
        f"exec {shlex.join([*search, '--run', run, *where])}\n"
    )
