"""The command line as a user meets it: what it prints, its exit codes, and the errors that are theirs to mend."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import cli
from launch.rundir.run import Run
from nas.search import Journal
from search_spaces import load_architecture, preset_names, zoo_names

FILES = {
    "wrong.yaml": """\
space: shapes
trainer: {epochs: 0, lr: x}
search: {trails: 3, sampler: tpee}
budget: {latency: 3 ms, params: lots}
objectives: [accuracy]
""",
    "twice.yaml": "space: shapes\nspace: shapes\n",
    "tag.yaml": "space: !!python/object/apply:os.system [id]\n",
    "unit.yaml": "space: shapes\nbudget: {latency_ms: 3 GiB}\n",
    "zero.yaml": "budget: {params: 0x}\n",
    "same.yaml": "objectives: [top1, top1]\n",
    "recipe.yaml": "recipe: shaps\n",
    "space.yaml": "space: nosuch\n",
    "size.yaml": "space: shapes\ndata: {name: shapes, image_size: 16}\n",
    "nodata.yaml": "space: fashion-mnist\nrecipe: fashion_mnist\ndata: {root: nowhere}\n",
    "workers.yaml": "resources: {workers: 0}\n",
    "warm.yaml": "trainer: {epochs: 2, warmup_epochs: 3}\n",
    "list.yaml": "- space: shapes\n",
    "open.yaml": """\
schema: 1
name: open
skeleton: {family: resnet, depth: 8, image_size: 32, num_classes: 8}
placements: {"*": {refine: [se, cbam]}}
""",
    "small.yaml": """\
schema: 1
name: small
skeleton: {family: resnet, depth: 8, image_size: 16, num_classes: 6}
placements: {"*": {refine: se}}
""",
}

ERRORS: list[tuple[str, str]] = [
    ("search twice.yaml", "twice.yaml:2: space: this key is written twice; it is first written in line 1; keep one"),
    ("search tag.yaml", "tag.yaml:1: space: tags are not allowed; remove !!python/object/apply:os.system"),
    (
        "search unit.yaml",
        "unit.yaml:2: budget: latency_ms: '3 GiB' has the unit 'GiB', which does not fit; use us, ms, s",
    ),
    ("search zero.yaml", "zero.yaml:1: budget: params: '0x' must be above 0"),
    ("search same.yaml", "same.yaml:1: objectives: each objective may stand once"),
    ("search recipe.yaml", "shaps: unknown recipe 'shaps' (did you mean 'shapes'?)"),
    ("search space.yaml", "space.yaml: space: nosuch: unknown preset or zoo name 'nosuch'"),
    ("search size.yaml", "space shapes does not fit the data shapes: skeleton.image_size is 32, the data has 16"),
    ("search nodata.yaml", "nas: fashion_mnist: no complete data in nowhere/FashionMNIST/raw"),
    ("search workers.yaml", "workers.yaml:1: resources: workers must be auto or at least 1, not 0"),
    ("search warm.yaml", "warm.yaml:1: trainer: warmup_epochs (3) must be below epochs (2)"),
    ("search list.yaml", "list.yaml:1: must be a mapping (key: value), not a list"),
    ("search nofile.yaml", "nofile.yaml: no such file"),
    ("search shaps", "shaps: unknown run file 'shaps' (did you mean 'shapes'?); allowed: fashion-mnist, shapes"),
    ("search --set trainer.epochs", "--set trainer.epochs: write key=value, with dots for nested keys"),
    (
        "search --set trainer.epchs=3",
        "--set trainer.epchs=3: trainer.epchs: unknown key 'epchs' (did you mean 'epochs'?)",
    ),
    ("search --set search.trials=many", "--set search.trials=many: search.trials: must be a whole number, not 'many'"),
    ("resume empty", "holds no run: journal.log is not there"),
    ("report nowhere", "holds no run: journal.log is not there"),
    ("export nowhere", "holds no run: journal.log is not there"),
    ("train open.yaml --recipe shapes", "open.yaml:4: placements.*.refine: is still a choice (se, cbam)"),
    (
        "train small.yaml --recipe shapes",
        "nas: skeleton.image_size is 16, and shapes has 32; set skeleton.image_size: 32",
    ),
    ("train small.yaml", "nas: say what to train on: --recipe NAME, or --run RUN"),
    ("train small.yaml --recipe nope", "nope: unknown recipe 'nope'; allowed: cifar, fashion_mnist, imagenet, shapes"),
    ("cost small.yaml --batch 0", "nas: batch_size is 0; it must be at least 1"),
    ("cost small.yaml --device tpu", "nas: device 'tpu' is not known; use cpu, cuda or cuda:N"),
    ("cost small.yaml --optimizer lion", "nas: optimizer 'lion' is not known; use sgd, adamw"),
    ("zoo --table XX", "nas: there is no table 'XX'; choose one of SE T2"),
    ("schema arch", "nas: there is no schema of 'arch'; choose space or run"),
    ("show", "nas: Missing argument 'SPACE|ARCHITECTURE'."),
    ("show empty/", "empty: is a directory; name a YAML file"),
    ("serach", "nas: No such command 'serach'. Did you mean 'search'?"),
    ("export nowhere --slect 3", "nas: No such option: --slect"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("line", "message"), ERRORS, ids=[line for line, _ in ERRORS])
def test_an_error_of_the_user_is_a_line_or_two(
    line: str, message: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(folder.rglob("*"))
    assert cli.run(line.split()) == cli.USER_ERROR
    printed = capsys.readouterr()
    assert message in printed.err
    assert len(printed.err.splitlines()) <= 2
    assert "Traceback" not in printed.err
    assert sorted(folder.rglob("*")) == before, "an error left something behind"


@pytest.mark.usefixtures("folder")
def test_all_problems_of_a_file_come_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["search", "wrong.yaml"]) == cli.USER_ERROR
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "trainer.epochs",
        "trainer.lr",
        "search.sampler",
        "search.trails",
        "budget",
        "objectives",
    ]
    assert "latency: not a measure" in lines[4]
    assert "params: 'lots' is not a limit" in lines[4]


def test_a_run_under_its_name_is_not_begun_twice(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(jobs=1)
    assert cli.run(["search", "shapes", "--run", str(run.folder)]) == cli.USER_ERROR
    assert "already holds a run" in capsys.readouterr().err


def test_two_drivers_do_not_work_on_one_run(make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run(jobs=1)
    with Journal.open(run.folder):
        assert cli.run(["resume", str(run.folder)]) == cli.USER_ERROR
    assert f"is being worked on by process {os.getpid()} on " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["best", "knee", "0"])
def test_export_writes_a_config_that_reads_back(name: str, make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run()
    out = tmp_path / "configs" / "x.yaml"
    assert cli.run(["export", str(run.folder), "--select", name, "-o", str(out)]) == cli.SUCCESS
    architecture = load_architecture(out)
    assert run.space.contains(architecture) or name == "0"


@pytest.mark.parametrize("which", ["99", "worst"])
def test_export_of_what_is_not_there(
    which: str, make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(jobs=2)
    assert cli.run(["export", str(run.folder), "--select", which]) == cli.USER_ERROR
    assert f"nas: there is no trial '{which}'; name best, knee, or a number" in capsys.readouterr().err


def test_report_prints_a_table_or_json(make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run()
    assert cli.run(["report", str(run.folder)]) == cli.SUCCESS
    assert "by hand" in capsys.readouterr().out
    assert cli.run(["report", str(run.folder), "--json"]) == cli.SUCCESS
    told = json.loads(capsys.readouterr().out)
    assert told["objectives"] == ["top1", "macs"]
    assert sum(row["front"] for row in told["rows"]) >= 1


@pytest.mark.parametrize("name", preset_names())
def test_show_prints_every_preset(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show", name, "--json"]) == cli.SUCCESS
    shown = json.loads(capsys.readouterr().out)
    assert shown["size"] > 1
    assert cli.run(["show", name]) == cli.SUCCESS
    assert f"{shown['size']:,} distinct architectures" in capsys.readouterr().out.replace("\n", " ")


@pytest.mark.usefixtures("folder")
def test_cost_and_zoo_speak_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["cost", "small.yaml", "--batch", "2", "--train-batch", "4", "--json"]) == cli.SUCCESS
    costs = json.loads(capsys.readouterr().out)["costs"]
    assert costs["params"]["value"] == 78_573
    assert costs["peak_memory_infer"]["source"] == "analytic"
    assert cli.run(["zoo", "--json"]) == cli.SUCCESS
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(zoo_names())


@pytest.mark.parametrize("of", ["space", "run"])
def test_schemas_are_json(of: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schema", of]) == cli.SUCCESS
    assert json.loads(capsys.readouterr().out)["type"] == "object"
