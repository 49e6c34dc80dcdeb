"""What all launchers share."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from launch.errors import UserError
from launch.rundir.config import RunConfig
from nas.costs import is_counted

_SAFE = re.compile(r"(?!-)[\w.,:@%+=/\[\]-]+", re.ASCII)


class _Dumper(yaml.SafeDumper):
    """Block style everywhere; an embedded file keeps its lines."""

    def ignore_aliases(self, data: object) -> bool:
        del data
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def document(data: object) -> str:
    """YAML for other tools, in the order of `data`."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=1000)


@dataclass(frozen=True)
class Target:
    """The run to start, and its nodes.

    ``file``: the run file, or the name of one that ships; ``overrides``: its `--set` options; ``run``: the run's
    folder, on a file system that all nodes share; ``nodes`` with ``gpus_per_node`` GPUs each.
    """

    file: str
    run: str
    nodes: int
    gpus_per_node: int
    overrides: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The job's name: lower case, digits and hyphens, which Kubernetes (the strictest) requires."""
        stem = self.file.rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")
        return "nas-" + (re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:40].strip("-") or "run")


def check(config: RunConfig, target: Target) -> None:
    """Raises a UserError if the run can never start on such nodes or in that folder."""
    if target.nodes < 1 or target.gpus_per_node < 0:
        raise UserError(f"{target.nodes} nodes of {target.gpus_per_node} GPUs are impossible; give at least one node")
    if "://" in target.run:
        raise UserError(
            f"--run {target.run} is in an object store, but a run needs a file system; give a folder on a file "
            "system that all nodes share"
        )
    wanted = config.resources.gpus_per_trial
    if wanted > target.gpus_per_node:
        raise UserError(
            f"resources.gpus_per_trial is {wanted:g}, but a node has {target.gpus_per_node} GPUs: no trial could "
            "start; use nodes with more GPUs (--gpus-per-node), or lower resources.gpus_per_trial"
        )


def own_gpu(config: RunConfig, target: Target) -> bool:
    """Whether the driver gets a GPU of its own: a trial on the same GPU would slow down its measurements."""
    measured = any(not is_counted(measure) for measure in config.measures)
    return measured and config.resources.gpus_per_trial > 0 and target.nodes * target.gpus_per_node > 1


def plain(option: str, value: str) -> str:
    """`value`, checked for use in a file of another syntax.

    Raises:
        UserError: it holds characters with a meaning there (spaces, quotes, line ends), or begins like an option.
    """
    if not _SAFE.fullmatch(value):
        raise UserError(
            f"{option}: {value!r} may hold only letters, digits and . , : @ % + = / [ ] -, and may not begin with -"
        )
    return value


def start_script(search: Sequence[str], run: str, address: str) -> str:
    """A bash script that begins a run, or continues it if it exists already (a requeued or retried job).

    It uses ``exec``, so that the signal that stops the job reaches the search.
    """
    where = ["--address", address]
    return (
        "#!/bin/bash\n"
        f"if {shlex.join(['nas', 'status', run])} > /dev/null 2>&1; then\n"
        f"  exec {shlex.join(['nas', 'resume', run, *where])}\n"
        "fi\n"
        f"exec {shlex.join([*search, '--run', run, *where])}\n"
    )
