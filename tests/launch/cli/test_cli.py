"""Tests the command line: its output, its exit codes, and its errors that a user can fix."""

import errno
import io
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import launch
from launch import cli
from launch.errors import Interrupted
from launch.reports.facts import facts_of
from launch.reports.prose import exported, markdown
from launch.rundir.beginning import begin
from launch.rundir.config import load_run, space_of
from launch.rundir.run import Run, open_run
from nas.search import Journal
from search_spaces import load_architecture, parse_space, preset_names, zoo_names

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
    "noise.pth": "no weights\n",
    "list.yaml": "- space: shapes\n",
    "open.yaml": """\
schema: 1
name: open
skeleton: {family: resnet, depth: 8, image_size: 32, num_classes: 8}
placements: {"*": {refine: [se, cbam]}}
""",
    "wide.yaml": """\
schema: 1
skeleton: {family: resnet, depth: 8, width: 99999999999999999999, image_size: 16, num_classes: 2}
""",
    "small.yaml": """\
schema: 1
name: small
skeleton: {family: resnet, depth: 8, image_size: 16, num_classes: 2}
placements: {"*": {refine: se}}
""",
}

ERRORS: list[tuple[str, str]] = [
    ("search twice.yaml", "twice.yaml:2: space: this key is written twice; it is first written in line 1; keep one"),
    ("search tag.yaml", "tag.yaml:1: space: tags are not allowed; remove !!python/object/apply:os.system"),
    (
        "search unit.yaml",
        "unit.yaml:2: budget.latency_ms: '3 GiB' has the unit 'GiB', which does not fit; use us, ms, s",
    ),
    ("search zero.yaml", "zero.yaml:1: budget.params: '0x' must be above 0"),
    ("search same.yaml", "same.yaml:1: objectives: an objective is given twice; name each once"),
    ("search recipe.yaml", "shaps: unknown recipe 'shaps' (did you mean 'shapes'?)"),
    ("search space.yaml", "space.yaml: space: nosuch: unknown preset or zoo name 'nosuch'"),
    (
        "search size.yaml",
        "space shapes does not fit the data: skeleton.image_size is 32, and shapes has 16; set skeleton.image_size: 16",
    ),
    ("search nodata.yaml", "nas: fashion_mnist: no complete data in nowhere/FashionMNIST/raw"),
    ("search workers.yaml", "workers.yaml:1: resources.workers: must be auto or within 1 and 100,000, not 0"),
    ("search warm.yaml", "warm.yaml:1: trainer.warmup_epochs: is 3, but must be below epochs (2)"),
    ("search list.yaml", "list.yaml:1: must be a mapping (key: value), not a list"),
    ("search nofile.yaml", "nofile.yaml: no such file"),
    ("search shaps", "shaps: unknown run file 'shaps' (did you mean 'shapes'?); allowed: fashion-mnist, shapes"),
    ("search --set trainer.epochs", "--set trainer.epochs: write key=value, with dots for nested keys"),
    (
        "search --set trainer.epchs=3",
        "--set trainer.epchs=3: trainer.epchs: unknown key 'epchs' (did you mean 'epochs'?)",
    ),
    ("search --set search.trials=many", "--set search.trials=many: search.trials: must be a whole number, not 'many'"),
    (
        "search --set budget.params=25M --set budget.macs=4GMac",
        "--set budget.macs=4GMac: budget.macs: '4GMac' has the unit 'GMac'",
    ),
    (
        "search --set trainer.epochs=1 --set trainer.warmup_epochs=0",
        "search.min_epochs: is 2, and must be at most trainer.epochs (1): train longer, or lower it",
    ),
    (
        "search --set data.root=true",
        "--set data.root=true: data.root: must be text, not true; put it in quotes: --set 'data.root=\"true\"'",
    ),
    ("search zero.yaml --set budget.params=0", "budget.params: '0' must be above 0"),
    ("search --set search.seed=4294967296", "search.seed: must be at most 4294967295, not 4294967296"),
    ("search --set trainer.seed=1e99", "trainer.seed: must be a whole number, not 1e+99"),
    ("search --set data.seed=99999999999999999999", "data.seed: must be at most 4294967295"),
    ("search --set trainer.lr=.inf", "trainer.lr: must be a finite number, not inf"),
    ("search --set trainer.warmup_epochs=.nan", "trainer.warmup_epochs: must be a finite number, not nan"),
    ("search --set search.trials=10000000", "search.trials: must be at most 1000000"),
    ("search --set search.eta=1000000", "search.eta: must be at most 100"),
    ("search --set search.decide=1000", "search.decide: must be at most 100"),
    ("search --set resources.cpus_per_trial=.inf", "resources.cpus_per_trial: must be a finite number, not inf"),
    ("search --set resources.workers=1000000", "resources.workers: must be auto or within 1 and 100,000"),
    ("search --set data.train_size=900000000", "data.train_size: is 900000000; shapes are drawn in memory"),
    ("search --set data.val_size=9000000000", "data.val_size: must be at most 1000000000"),
    (
        "search --set resources.gpus_per_trial=1",
        "nas: resources.gpus_per_trial is 1 and trials run on this machine, which has no GPU that PyTorch can use",
    ),
    (
        "search --set resources.gpus_per_trial=1 --address auto",
        "nas: resources.gpus_per_trial is 1 and latency_ms is measured on this machine, which has no GPU",
    ),
    (
        "search --set resources.address=nowhere",
        "nas: nowhere is no address of a Ray cluster: write host:port (port 1 to",
    ),
    ("search --address host:99999", "nas: host:99999 is no address of a Ray cluster"),
    ("search --address http://[::1", "nas: http://[::1 is no address of a Ray cluster"),
    ("search --set resources.cpus_per_trial=4000", "nas: resources.cpus_per_trial is 4000, and this machine has "),
    ("search --set objectives=[]", "objectives: must have at least 1 entries, not 0"),
    (
        "search --set data.name=imagefolder --set data.root=~no.such.user/pictures",
        "nas: imagefolder: ~no.such.user/pictures is no folder.",
    ),
    ("data ~no.such.user/pictures", "nas: imagefolder: ~no.such.user/pictures is no folder."),
    ("show wide.yaml", "wide.yaml:2: skeleton.width: must be at most 16384, not 99999999999999999999"),
    ("resume empty", "holds no run: journal.log is not there"),
    ("report nowhere", "holds no run: journal.log is not there"),
    ("export nowhere", "holds no run: journal.log is not there"),
    ("train open.yaml --recipe shapes", "open.yaml:4: placements.*.refine: is still a choice (se, cbam)"),
    (
        "train small.yaml --recipe shapes",
        "nas: skeleton.image_size is 16, and shapes has 32; set skeleton.image_size: 32",
    ),
    ("train small.yaml --recipe shapes --from absent.pth", "absent.pth: no such file; give a .safetensors file"),
    ("train small.yaml --recipe shapes --from noise.pth", "noise.pth: is no file of torch.save; give a .safetensors"),
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


NEAR = """\
space: space.yaml
recipe: recipe.yaml
objectives: [top1, macs]
"""
NEAR_SPACE = """\
schema: 1
skeleton: {family: resnet, depth: 8, width: 4, image_size: 8, num_classes: 2}
placements: {"*": {refine: [none, {se: {reduction: 2}}]}}
tie: network
"""


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)


def test_paths_are_looked_for_beside_the_file_that_says_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near, here = tmp_path / "near", tmp_path / "here"
    for place in (near, here):
        (place / "pictures").mkdir(parents=True)
    (near / "run.yaml").write_text(NEAR)
    (near / "space.yaml").write_text(NEAR_SPACE)
    (near / "recipe.yaml").write_text("data: {name: imagefolder, root: pictures}\n")
    (near / "times.yaml").write_text("")
    monkeypatch.chdir(here)
    config = load_run("../near/run.yaml", ["calibration=times.yaml"])
    assert config.data.root == "../near/pictures"
    assert config.calibration == "times.yaml"  # what the command line says is meant from here
    assert space_of("../near/run.yaml", config).size == 2
    assert load_run("../near/run.yaml", ["data.root=pictures"]).data.root == "pictures"
    (near / "run.yaml").write_text(NEAR + "data: {root: nowhere}\ncalibration: times.yaml\n")
    config = load_run("../near/run.yaml")
    assert (config.data.root, config.calibration) == ("nowhere", "../near/times.yaml")
    (near / "run.yaml").write_text("space: space.yaml\nrecipe: shapes\n")
    assert load_run("../near/run.yaml").data.name == "shapes"


def test_a_run_keeps_where_its_data_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So the run can be resumed from any folder, and says which folder it reads."""
    (tmp_path / "pictures").mkdir()
    (tmp_path / "run.yaml").write_text(f"{NEAR}data: {{name: imagefolder, root: pictures}}\n")
    (tmp_path / "space.yaml").write_text(NEAR_SPACE)
    (tmp_path / "recipe.yaml").write_text("trainer: {epochs: 2}\n")
    monkeypatch.chdir(tmp_path)
    config = load_run("run.yaml")
    begin(Path("run"), config, space_of("run.yaml", config))
    monkeypatch.chdir("/")
    assert open_run(tmp_path / "run")[0].config.data.root == str(tmp_path / "pictures")
    assert cli.run(["resume", str(tmp_path / "run")]) == cli.USER_ERROR  # there are no pictures
    assert capsys.readouterr().out == f"reading the data in {tmp_path / 'pictures'}\n"


def test_paths_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run.yaml").write_text(
        "space: ~/space.yaml\nrecipe: ~/recipe.yaml\ncalibration: ~/times.yaml\ndata: {root: ~/pictures}\n"
    )
    (tmp_path / "space.yaml").write_text(NEAR_SPACE)
    (tmp_path / "recipe.yaml").write_text("trainer: {epochs: 3}\n")
    config = load_run(tmp_path / "run.yaml")
    assert config.trainer.epochs == 3
    assert config.calibration == str(tmp_path / "times.yaml")
    assert config.data.root == str(tmp_path / "pictures")
    assert space_of(str(tmp_path / "run.yaml"), config).plain().skeleton.image_size == 8


@pytest.mark.parametrize("name", ["a[/b]", "[new]", "[bold]x", ":smile:", "b\udcff"])
def test_names_are_printed_unchanged(
    name: str, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(name, jobs=3).folder
    monkeypatch.chdir(folder.parent if "/" not in name else folder.parent.parent)
    shown = name.encode("ascii", "backslashreplace").decode()
    monkeypatch.setattr("launch.session.search", lambda *_: raise_(Interrupted))
    monkeypatch.setattr("launch.reports.report.figures", lambda _: {})
    for command in ("status", "report", "resume"):
        assert cli.run([command, name]) == (cli.INTERRUPTED if command == "resume" else cli.SUCCESS), command
        assert shown in capsys.readouterr().out


class Unread(io.StringIO):
    """Standard output as a pipe that nobody reads any more, as in `nas ... | head -1`."""

    def write(self, text: str, /) -> int:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


@pytest.mark.parametrize("command", ["status", "report", "show"])
def test_a_command_whose_output_nobody_reads_ends_without_a_word(
    command: str, make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("launch.reports.report.figures", lambda _: {})
    argument = "shapes" if command == "show" else str(make_run(jobs=3).folder)
    monkeypatch.setattr("sys.stdout", Unread())
    assert cli.run([command, argument]) == cli.SUCCESS
    assert capsys.readouterr().err == ""


def test_a_search_whose_output_nobody_reads_says_how_to_continue(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(jobs=3).folder
    monkeypatch.setattr("launch.session.search", lambda *_: pytest.fail("it goes on"))
    monkeypatch.setattr("sys.stdout", Unread())
    assert cli.run(["resume", str(folder)]) == cli.INTERRUPTED
    assert f"finished work is kept. Continue with: nas resume {folder}" in capsys.readouterr().err


def raise_(error: type[Exception]) -> None:
    raise error


def test_lists_of_words_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["show", "cifar-resnet"]) == cli.SUCCESS
    assert "position=[" in capsys.readouterr().out


def test_there_is_one_console() -> None:
    """A console with other settings would interpret [brackets] in a user's text as markup."""
    places = [path for path in Path(launch.__path__[0]).rglob("*.py") if re.search(r"Console\(", path.read_text())]
    assert [path.name for path in places] == ["options.py"]


def test_a_space_without_a_name_is_called_by_its_run(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run("mine", jobs=2).folder)
    nameless = replace(run, space=parse_space(run.space.dump().replace("name: shapes\n", "")))
    assert markdown(facts_of(nameless, trials), []).startswith("# mine: where attention pays\n")


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


@pytest.mark.parametrize("line", ["", "launch"])
def test_a_command_that_lacks_its_subcommand_tells_its_usage(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(line.split()) == cli.USER_ERROR
    printed = capsys.readouterr()
    assert printed.err.startswith("Usage: ")
    assert "COMMAND" in printed.err.splitlines()[0]
    assert not printed.out
    assert "(see nas --help)" not in printed.err
    assert "completion" not in printed.err


def test_a_folder_that_is_gone_is_named_as_such(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert cli.run(["search", "--run", "x", "--set", "objectives=[top1, macs]", "--set", "budget={}"]) == cli.USER_ERROR
    assert capsys.readouterr().err == "nas: the current folder was removed: change to another one\n"


@pytest.mark.usefixtures("folder")
def test_all_problems_of_a_file_come_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["search", "wrong.yaml"]) == cli.USER_ERROR
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1] for line in lines] == [
        "trainer.epochs",
        "trainer.lr",
        "search.sampler",
        "search.trails",
        "budget.latency",
        "budget.params",
        "objectives",
    ]
    assert "not a measure" in lines[4]
    assert "'lots' is not a limit" in lines[5]


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
    assert f"is in use by process {os.getpid()} on " in capsys.readouterr().err


@pytest.mark.parametrize("name", ["best", "knee", "0"])
def test_export_writes_a_config_that_reads_back(name: str, make_run: Callable[..., Run], tmp_path: Path) -> None:
    run = make_run()
    out = tmp_path / "configs" / "x.yaml"
    assert cli.run(["export", str(run.folder), "--select", name, "-o", str(out)]) == cli.SUCCESS
    architecture = load_architecture(out)
    assert run.space.contains(architecture) or name == "0"


def test_export_of_a_failed_trial_says_so(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run(jobs=2).folder)
    failed = replace(trials[1], status="failed", reason="out of\nluck")
    assert "# trial: 1 (failed: out of luck)\n" in exported(run, failed, ())


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
    assert "Take trial" in " ".join(capsys.readouterr().out.split())
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
    assert costs["params"]["value"] == 78_313
    assert costs["peak_memory_infer"]["source"] == "analytic"
    assert cli.run(["zoo", "--json"]) == cli.SUCCESS
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(zoo_names())


@pytest.mark.parametrize("of", ["space", "run"])
def test_schemas_are_json(of: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["schema", of]) == cli.SUCCESS
    assert json.loads(capsys.readouterr().out)["type"] == "object"
