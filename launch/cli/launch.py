"""`nas launch ...`: writes the files that start a search on a cluster."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from launch import launchers
from launch.cli.options import Set
from launch.files import check_file, write_text
from launch.launchers import Target
from launch.rundir.config import RunConfig, load_run, space_of
from launch.session import check_elsewhere
from search_spaces import SearchSpace
from search_spaces.errors import named, typed

app = typer.Typer(
    name="launch",
    help="Writes the files that start a search on a cluster.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

File = Annotated[str, typer.Argument(metavar="RUN.yaml", help="A run file, or the name of one that ships.")]
RunDir = Annotated[str | None, typer.Option("--run", metavar="DIR", help="The run's folder, shared by all nodes.")]
Nodes = Annotated[int, typer.Option(min=1, help="Machines.")]
Gpus = Annotated[int, typer.Option(min=0, help="GPUs per machine.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Output file; default: standard output.")]


@app.command()
def slurm(
    file: File,
    *,
    overrides: Set,
    run: RunDir = None,
    nodes: Nodes = 1,
    gpus_per_node: Gpus = 0,
    cpus_per_node: Annotated[int | None, typer.Option(min=1, help="CPUs per node; default: the whole node.")] = None,
    time: Annotated[str | None, typer.Option(help="The time limit in SLURM's format; the job requeues itself.")] = None,
    partition: Annotated[str | None, typer.Option(help="The SLURM partition.")] = None,
    account: Annotated[str | None, typer.Option(help="The SLURM account.")] = None,
    submit: Annotated[bool, typer.Option("--submit", help="Submit the script with sbatch.")] = False,
    output: Output = None,
) -> None:
    """Writes a SLURM batch script. A requeued job continues the run."""

    target = _target(file, run, nodes, gpus_per_node, overrides)
    script = output or (Path(f"{target.name}.sbatch") if submit else None)
    config, _ = _checked(target, script, same_files=True)
    text = launchers.slurm(config, target, launchers.Slurm(cpus_per_node, time, partition, account))
    if submit and script is not None:
        write_text(script, text)
        typer.echo(launchers.submit(script))
    else:
        _write(text, output, lambda path: f"sbatch {path}")


@app.command()
def kuberay(
    file: File,
    image: Annotated[str, typer.Option(help="A container image with this package and Ray.")],
    claim: Annotated[str, typer.Option(help="A volume claim for runs that many nodes can write.")],
    *,
    overrides: Set,
    run: RunDir = None,
    nodes: Nodes = 1,
    gpus_per_node: Gpus = 0,
    cpus_per_node: Annotated[int, typer.Option(min=1, help="CPUs per pod.")] = 8,
    memory: Annotated[str, typer.Option(help="Memory per pod.")] = "32Gi",
    namespace: Annotated[str | None, typer.Option(help="Default: kubectl's namespace.")] = None,
    output: Output = None,
) -> None:
    """Writes a RayJob for Kubernetes with the KubeRay operator."""

    target = _target(file, run, nodes, gpus_per_node, overrides)
    config, space = _checked(target, output, same_files=False)
    kube = launchers.Kube(image, claim, cpus_per_node, memory, namespace)
    calibration = None if config.calibration is None else Path(config.calibration).read_text()
    text = launchers.kuberay(config, space, target, kube, calibration)
    _write(text, output, lambda path: f"kubectl apply -f {path}")


@app.command(name="ray-up")
def ray_up(
    file: File,
    provider: Annotated[str, typer.Option(help="aws, gcp, azure, or local (your own machines).")],
    *,
    overrides: Set,
    run: RunDir = None,
    nodes: Nodes = 1,
    gpus_per_node: Gpus = 0,
    hosts: Annotated[str, typer.Option(help="For local: addresses separated by commas, the head first.")] = "",
    machine: Annotated[str | None, typer.Option(help="The machine type; needs --cpus-per-node.")] = None,
    cpus_per_node: Annotated[int | None, typer.Option(min=1, help="CPUs of --machine.")] = None,
    region: Annotated[str | None, typer.Option(help="The cloud region.")] = None,
    project: Annotated[str | None, typer.Option(help="For gcp: the project's id.")] = None,
    user: Annotated[str, typer.Option(help="The ssh user.")] = "ubuntu",
    output: Output = None,
) -> None:
    """Writes a cluster file for ray up: AWS, GCP, Azure, or your own machines."""

    names = tuple(host.strip() for host in hosts.split(",") if host.strip())
    if provider == "local" and nodes == 1 and names:
        nodes = len(names)
    target = _target(file, run, nodes, gpus_per_node, overrides)
    config, _ = _checked(target, output, same_files=False)
    cloud = launchers.Cloud(provider, names, machine, cpus_per_node, region, project, user)
    if provider == "local" and not gpus_per_node:
        # Ray itself detects the GPUs of own machines.
        target = replace(target, gpus_per_node=int(-(-config.resources.gpus_per_trial // 1)))
    _write(launchers.ray_up(config, target, cloud), output, lambda path: f"ray up {path}")


def _target(file: str, run: str | None, nodes: int, gpus: int, overrides: list[str]) -> Target:
    return Target(file, run or f"runs/{Path(file).stem}", nodes, gpus, tuple(overrides))


def _checked(target: Target, output: Path | None, *, same_files: bool) -> tuple[RunConfig, SearchSpace]:
    """The run and its space, after all checks that need no cluster."""
    if output is not None:
        check_file(output)
    config = load_run(target.file, target.overrides)
    space = space_of(target.file, config)
    check_elsewhere(config, space, same_files=same_files)
    return config, space


def _write(text: str, output: Path | None, then: Callable[[str], str]) -> None:
    if output is None:
        typer.echo(text, nl=False)
    else:
        write_text(output, text)
        typer.echo(f"{named(output)}: {then(typed(output))}")
