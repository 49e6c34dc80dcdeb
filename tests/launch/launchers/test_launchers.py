"""Tests the files that start a search on a cluster: golden files, each tool's rules, and a SLURM of stubs.

After an intended change, `UPDATE_GOLDEN=1 pytest tests/launch/launchers` rewrites the golden files.
"""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
import ray
import yaml

from launch import cli
from launch.errors import UserError
from launch.launchers import Cloud, Kube, Slurm, Target, kuberay, ray_up, slurm
from launch.rundir.config import RunConfig, load_run
from launch.rundir.run import open_run
from nas.costs import Calibration, Protocol
from search_spaces import load_space

if TYPE_CHECKING:
    from conftest import SlurmStub

GOLDEN = Path(__file__).parents[2] / "golden" / "launchers"
GPU = load_run("shapes", ["resources.gpus_per_trial=0.5"])
CPU = load_run("shapes", ["objectives=[top1, macs]", "budget={params: 2x}"])
ON_GPUS = Target("runs/my run.yaml", "/shared/my run", 4, 8, ("resources.gpus_per_trial=0.5",))
ON_CPUS = Target("shapes", "runs/shapes", 1, 0)
KUBE = Kube("registry.example.org/nas:1", "runs", 96, "512Gi", "vision")
ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")


def rayjob(config: RunConfig, target: Target) -> str:
    return kuberay(config, load_space("shapes"), target, KUBE)


TEXTS: dict[str, Callable[[], str]] = {
    "gpus.sbatch": lambda: slurm(GPU, ON_GPUS, Slurm(None, "1-00:00:00", "gpu", "vision")),
    "cpus.sbatch": lambda: slurm(CPU, ON_CPUS, Slurm(16)),
    "gpus.rayjob.yaml": lambda: rayjob(GPU, ON_GPUS),
    "cpus.rayjob.yaml": lambda: rayjob(CPU, ON_CPUS),
    "aws.ray-up.yaml": lambda: ray_up(GPU, ON_GPUS, Cloud("aws")),
    "gcp.ray-up.yaml": lambda: ray_up(GPU, ON_GPUS, Cloud("gcp", project="vision-1")),
    "azure.ray-up.yaml": lambda: ray_up(CPU, ON_CPUS, Cloud("azure")),
    "local.ray-up.yaml": lambda: ray_up(GPU, ON_GPUS, Cloud("local", ADDRESSES, user="ray")),
}


@pytest.mark.parametrize("name", TEXTS)
def test_golden(name: str) -> None:
    path = GOLDEN / name
    if "UPDATE_GOLDEN" in os.environ:
        path.write_text(TEXTS[name]())
    assert TEXTS[name]() == path.read_text()


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith("ray-up.yaml")])
def test_ray_up_takes_it(name: str) -> None:
    """The file is valid by the schema that Ray contains."""
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load(TEXTS[name]()), schema)


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith("rayjob.yaml")])
def test_kuberay_knows_every_field(name: str) -> None:
    """Fields and types are those of the Go types of `ray.io/v1`, which also refuses unknown fields."""
    config_map, job = yaml.safe_load_all(TEXTS[name]())
    jsonschema.validate(job, RAYJOB)
    assert config_map["metadata"] == job["metadata"]
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    pods = [job["spec"]["rayClusterSpec"]["headGroupSpec"], *job["spec"]["rayClusterSpec"]["workerGroupSpecs"]]
    for pod in pods:
        spec = pod["template"]["spec"]
        mounted = {mount["name"] for mount in spec["containers"][0]["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}
        assert all(isinstance(value, str) for value in pod["rayStartParams"].values())


def test_the_run_file_in_a_config_map_is_the_run(tmp_path: Path) -> None:
    config_map, _ = yaml.safe_load_all(TEXTS["gpus.rayjob.yaml"]())
    for name, text in config_map["data"].items():
        (tmp_path / name).write_text(text)
    assert load_run(tmp_path / "run.yaml") == GPU.model_copy(update={"space": "space.yaml", "recipe": None})
    assert load_space(tmp_path / "space.yaml") == load_space("shapes")


def with_pods_files(text: str, folder: Path) -> str:
    """Writes the ConfigMap's files as in a pod; returns the job's entrypoint with their path."""
    config_map, job = yaml.safe_load_all(text)
    for name, content in config_map["data"].items():
        (folder / name).write_text(content.replace("/etc/nas", str(folder)))
    entrypoint: str = job["spec"]["entrypoint"]
    return entrypoint.replace("/etc/nas", str(folder))


POD = {
    # What stands behind `--` goes to the head as one line, and there to a shell.
    "ray": 'while [ "$1" != -- ]; do shift; done; shift; exec bash -c "$*"\n',
    "nas": """\
printf '%s|' "$@" >> "$SAID"; echo >> "$SAID"
[ "$1" != status ] || [ -n "$BEGUN" ]
""",
}


@pytest.mark.parametrize(("begun", "command"), [("", "search|{files}/run.yaml|--run|"), ("yes", "resume|")])
def test_a_rayjob_survives_the_operators_line(
    begun: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator puts the entrypoint unquoted into a line of bash; no part of a name may be executed."""
    stubs, files = tmp_path / "bin", tmp_path / "files"
    stubs.mkdir()
    files.mkdir()
    for name, text in POD.items():
        (stubs / name).write_text(f"#!/bin/bash\n{text}")
        (stubs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{stubs}:{os.environ['PATH']}")
    monkeypatch.setenv("SAID", str(tmp_path / "said"))
    monkeypatch.setenv("BEGUN", begun)
    monkeypatch.chdir(tmp_path)
    run = "my run; $(touch gone) 'a'"
    entrypoint = with_pods_files(rayjob(CPU, Target("shapes", run, 1, 0)), files)
    line = f"if true; then ray job submit --address http://head:8265 --no-wait -- {entrypoint} ; fi"
    subprocess.run(["bash", "-c", line], check=True)
    said = (tmp_path / "said").read_text().splitlines()
    where = "--address|auto|"
    assert said == [f"status|/nas/{run}|", f"{command.format(files=files)}/nas/{run}|{where}"]
    assert not (tmp_path / "gone").exists()


def test_a_rayjob_contains_the_files_that_a_run_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod has only the ConfigMap, so it must contain the recipe and the calibration of this machine."""
    here, pod = tmp_path / "here", tmp_path / "pod"
    here.mkdir()
    pod.mkdir()
    (here / "rec.yaml").write_text("trainer: {epochs: 3, batch_size: 8, lr: 0.04}\n")
    times = Calibration(
        device={}, conditions={}, skeleton={}, protocol=Protocol(), reference_ms=1.0, tables={}
    )  # another device's
    times.save(here / "times.yaml")
    text = (here / "times.yaml").read_text()
    (here / "run.yaml").write_text("recipe: rec.yaml\ncalibration: times.yaml\n")
    monkeypatch.chdir(here)
    line = ["launch", "kuberay", "run.yaml", "--image", "a/b:1", "--claim", "c", "-o", str(tmp_path / "job.yaml")]
    assert cli.run(line) == cli.SUCCESS
    wanted = load_run("run.yaml")
    with_pods_files((tmp_path / "job.yaml").read_text(), pod)
    shutil.rmtree(here)
    monkeypatch.chdir(tmp_path)
    found = load_run(pod / "run.yaml")
    assert (found.data, found.trainer) == (wanted.data, wanted.trainer)
    assert found.trainer.lr == 0.04
    assert found.calibration is not None
    assert Path(found.calibration).read_text() == text


LAUNCHERS = {
    "slurm": [],
    "kuberay": ["--image", "a/b:1", "--claim", "c"],
    "ray-up": ["--provider", "aws"],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("space=nosuch", "unknown preset or zoo name 'nosuch'"),
        ("data.image_size=16", "does not fit the data"),
        ("budget.params=1", "budget.params: no network keeps 1: plain "),
        ("calibration=run.yaml", "run.yaml:1: "),
        ("calibration=nowhere.yaml", "nowhere.yaml: no such file"),
    ],
)
def test_a_run_that_cannot_start_is_refused_as_nas_search_does(
    launcher: str,
    setting: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "run.yaml").write_text("data: {train_size: 60, val_size: 30}\n")
    monkeypatch.chdir(tmp_path)
    line = ["launch", launcher, "run.yaml", *LAUNCHERS[launcher], "--set", setting, "-o", "out"]
    assert cli.run(line) == cli.USER_ERROR
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


PICTURES = """\
space: space.yaml
data: {name: imagefolder, root: pictures}
"""
PICTURES_SPACE = """\
schema: 1
skeleton: {family: resnet, depth: 8, width: 4, image_size: 224, num_classes: 3}
placements: {"*": {refine: [none, {se: {reduction: 2}}]}}
"""


def test_pictures_are_checked_where_the_nodes_have_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pod has its own files, and so may a login node that lacks the folder."""
    (tmp_path / "run.yaml").write_text(PICTURES)
    (tmp_path / "space.yaml").write_text(PICTURES_SPACE)
    monkeypatch.chdir(tmp_path)
    assert cli.run(["launch", "slurm", "run.yaml"]) == cli.SUCCESS
    (tmp_path / "pictures").mkdir()
    assert cli.run(["launch", "kuberay", "run.yaml", *LAUNCHERS["kuberay"]]) == cli.SUCCESS
    assert cli.run(["launch", "slurm", "run.yaml"]) == cli.USER_ERROR
    assert "pictures has 0 class folders with pictures" in capsys.readouterr().err


def test_submitting_makes_the_folder_of_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sbatch").write_text("#!/bin/bash\necho Submitted batch job 7\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    script = tmp_path / "new" / "x.sbatch"
    assert cli.run(["launch", "slurm", "shapes", "--submit", "-o", str(script)]) == cli.SUCCESS
    assert script.read_text().startswith("#!/bin/bash\n")
    assert capsys.readouterr().out == "Submitted batch job 7\n"


def _object(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


_TEXT, _WHOLE = {"type": "string"}, {"type": "integer"}
_GROUP = {"rayStartParams": {"type": "object", "additionalProperties": _TEXT}, "template": {"type": "object"}}
RAYJOB = _object(
    {
        "apiVersion": {"const": "ray.io/v1"},
        "kind": {"const": "RayJob"},
        "metadata": {"type": "object"},
        "spec": _object(
            {
                "activeDeadlineSeconds": _WHOLE,
                "backoffLimit": _WHOLE,
                "entrypoint": _TEXT,
                "entrypointNumCpus": {"type": "number"},
                "entrypointNumGpus": {"type": "number"},
                "entrypointResources": _TEXT,
                "runtimeEnvYAML": _TEXT,
                "shutdownAfterJobFinishes": {"type": "boolean"},
                "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode"]},
                "ttlSecondsAfterFinished": _WHOLE,
                "rayClusterSpec": _object(
                    {
                        "rayVersion": _TEXT,
                        "headGroupSpec": _object({"serviceType": _TEXT, **_GROUP}, "rayStartParams", "template"),
                        "workerGroupSpecs": {
                            "type": "array",
                            "items": _object(
                                {
                                    "groupName": _TEXT,
                                    "replicas": _WHOLE,
                                    "minReplicas": _WHOLE,
                                    "maxReplicas": _WHOLE,
                                    **_GROUP,
                                },
                                "groupName",
                                "minReplicas",
                                "maxReplicas",
                                "rayStartParams",
                                "template",
                            ),
                        },
                    },
                    "headGroupSpec",
                ),
            }
        ),
    },
    "apiVersion",
    "kind",
    "metadata",
    "spec",
)


@pytest.mark.parametrize("name", ["gpus.sbatch", "cpus.sbatch"])
def test_sbatch_takes_it(name: str) -> None:
    """Bash can parse the script, and its directives come before the first command and are documented by sbatch."""
    text = TEXTS[name]()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert text.startswith("#!/bin/bash\n#SBATCH ")
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert text.splitlines()[1 : 1 + len(directives)] == directives
    for line in directives:
        assert any(re.fullmatch(f"#SBATCH --{form}", line) for form in SBATCH), line


SBATCH = (
    r"job-name=[\w-]+",
    r"nodes=\d+",
    r"ntasks-per-node=\d+",
    r"cpus-per-task=\d+",
    r"gpus-per-node=\d+",
    r"time=(\d+-)?\d+(:\d+){0,2}",
    r"partition=[\w,-]+",
    r"account=[\w-]+",
    r"output=[\w%.-]+",
    r"open-mode=(append|truncate)",
    r"signal=B:USR1@\d+",
    "requeue",
    "no-kill",
    "exclusive",
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: slurm(load_run("shapes", ["resources.gpus_per_trial=1"]), ON_CPUS), "no trial could start"),
        (lambda: slurm(CPU, ON_CPUS, Slurm(partition="gpu\n#SBATCH --uid=0")), "--partition"),
        (lambda: slurm(CPU, ON_CPUS, Slurm(account="-x")), "may not begin with -"),
        (lambda: rayjob(CPU, Target("shapes", "r", 0, 0)), "give at least one node"),
        (lambda: slurm(CPU, Target("shapes", "s3://bucket/run", 1, 0)), "--run s3://bucket/run is in an object store"),
        (lambda: ray_up(CPU, ON_CPUS, Cloud("ibm")), "there is no 'ibm'; choose one of aws, gcp, azure, local"),
        (lambda: ray_up(GPU, Target("shapes", "r", 1, 3), Cloud("aws")), "with 3 GPUs is known here"),
        (lambda: ray_up(CPU, ON_CPUS, Cloud("gcp")), "needs --project"),
        (lambda: ray_up(CPU, ON_CPUS, Cloud("local", ("a", "b"))), "--hosts names 2 machines and --nodes says 1"),
    ],
)
def test_impossible_requests_are_refused(make: Callable[[], str], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        make()


def test_the_command_writes_and_prints_the_next_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "job.sbatch"
    assert cli.run(["launch", "slurm", "shapes", "--nodes", "2", "-o", str(path)]) == cli.SUCCESS
    assert capsys.readouterr().out == f"{path}: sbatch {path}\n"
    assert path.read_text().startswith("#!/bin/bash\n")


# --- a SLURM of one machine

TRIALS = 10  # enough that it is not over before the signal arrives
RUN_FILE = {
    "space": "shapes",
    "data": {"name": "shapes", "train_size": 160, "val_size": 80},
    "trainer": {"epochs": 3, "batch_size": 32},
    "objectives": ["top1", "macs"],
    "budget": {"params": "2x"},
    "search": {"trials": TRIALS, "sampler": "random", "eta": 2, "decide": 0},
}


@pytest.mark.slow
@pytest.mark.repeated
@pytest.mark.timeout(1200)
@pytest.mark.xdist_group("killed")
def test_slurm_runs_it_and_a_requeued_job_continues(one_machine_slurm: "SlurmStub", tmp_path: Path) -> None:
    """`make test` has the same among the other ends of a run: tests/launch/ray/test_crashes.py."""
    (tmp_path / "run.yaml").write_text(json.dumps(RUN_FILE))
    journal = tmp_path / "run" / "journal.log"
    one_machine_slurm.submit("run.yaml", "--run", "run", "--nodes", "2")
    one_machine_slurm.wait_until(lambda: journal.exists() and journal.read_text().count('"epoch:') >= 4)
    one_machine_slurm.near_its_time_limit()
    _, before = open_run(tmp_path / "run")
    assert not all(trial.ended for trial in before)
    one_machine_slurm.requeue()
    _, trials = open_run(tmp_path / "run")
    assert sum(trial.plan is not None for trial in trials) == TRIALS, one_machine_slurm.log()
    assert all(trial.ended for trial in trials)
    assert all(sorted(trial.epochs) == list(range(1, trial.last_epoch + 1)) for trial in trials)
    for trial in before:  # what was finished was not trained again
        assert {n: r.ended for n, r in trial.epochs.items()}.items() <= {
            n: r.ended for n, r in trials[trial.number].epochs.items()
        }.items()
