"""Random command lines: each ends with one of our exit codes and a few lines, and creates no file if it fails.

Functions that measure, train or start Ray are replaced: `begin`, `check_budget`, `train_in_full`, `run_calibration`,
`describe` and `proxy_rows`. `launch --submit` and `zoo` are left out. All other code is real.
"""

import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from launch import cli
from launch.errors import Failure

SPACE = """\
schema: 1
name: tiny
skeleton: {family: resnet, depth: 8, width: 4, image_size: 8, num_classes: 2}
placements: {"*": {refine: [none, {se: {reduction: 2}}]}}
tie: network
"""
RUN = "space: tiny.yaml\ndata: {train_size: 60, val_size: 30, image_size: 8}\nobjectives: [top1, params]\n"
VALUES = [
    *(
        "",
        "x",
        "0",
        "-1",
        "1e999",
        ".nan",
        "99999999999999999999",
        "0.5",
        "null",
        "true",
        "[",
        "{",
        "[]",
        "{a: 1}",
        "#",
        "a #b",
    ),
    *(
        "[red]",
        "[/b]",
        "ü\u202e",
        "\x1b[31m",
        "'",
        '"',
        "a\nb",
        "*",
        "&a",
        "!!python/none",
        "x" * 300,
        "\udcff",
        ":smile:",
    ),
    *("tiny.yaml", "run.yaml", "folder", "file", "loop", "nowhere/x.yaml", "file/x", "binary", "/", ".", "s3://a/b"),
    *("shapes", "se_resnet50", "cpu", "cuda:9", "auto", "ray://a:1", "best", "1.25x", "8GiB", "sgd"),
]
KEYS = [
    *(
        "space",
        "recipe",
        "data.root",
        "data.name",
        "data.train_size",
        "data.image_size",
        "trainer.epochs",
        "trainer.lr",
    ),
    *("trainer.batch_size", "trainer.seed", "objectives", "objectives.0", "budget", "budget.params", "calibration"),
    *("search.trials", "search.eta", "search.seed", "resources.workers", "resources.gpus_per_trial", "a.b", "", "."),
]
COMMANDS: dict[str, tuple[int, list[str]]] = {
    "show": (1, ["--json"]),
    "schema": (1, []),
    "cost": (1, ["--device", "--batch", "--train-batch", "--optimizer", "--threads", "--memory", "--json"]),
    "calibrate": (1, ["--set", "--device", "-o", "--json"]),
    "proxies": (1, ["--networks", "--json"]),
    "search": (1, ["--set", "--run", "--address", "--overwrite", "--json"]),
    "resume": (1, ["--address", "--json"]),
    "status": (1, ["--json"]),
    "report": (1, ["--json"]),
    "compare": (2, ["-o", "--json"]),
    "explain": (2, ["--weights", "--pixel", "--cam", "--most", "-o", "--tensorboard", "--json"]),
    "export": (1, ["--select", "-o"]),
    "train": (1, ["--recipe", "--run", "--set", "-o", "--device", "--json"]),
    "launch slurm": (1, ["--set", "--run", "--nodes", "--gpus-per-node", "--time", "--partition", "-o"]),
    "launch kuberay": (1, ["--image", "--claim", "--memory", "--namespace", "--set", "-o"]),
    "launch ray-up": (1, ["--provider", "--hosts", "--machine", "--region", "--user", "-o"]),
    "nothing": (0, []),
}
FLAGS = {"--json", "--overwrite", "--cam"}
Bounded = Callable[[object], AbstractContextManager[None]]


def a_line(rng: random.Random) -> list[str]:
    """A command with arguments and options, most of them valid."""
    command, (arguments, options) = rng.choice(list(COMMANDS.items()))
    line = command.split()
    line += [rng.choice(["tiny.yaml", "run.yaml", rng.choice(VALUES)]) for _ in range(arguments)]
    for option in rng.sample(options, rng.randint(0, min(3, len(options)))):
        line.append(option)
        if option == "--set":
            line.append(f"{rng.choice(KEYS)}={rng.choice(VALUES)}" if rng.random() < 0.9 else rng.choice(VALUES))
        elif option not in FLAGS:
            line.append(rng.choice(VALUES))
    return line if rng.random() < 0.95 else [*line, rng.choice(VALUES)]


def stop(*_: object, **__: object) -> None:
    raise Failure("the work would begin here")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "tiny.yaml").write_text(SPACE)
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in (
        "launch.cli.search.begin",
        "launch.cli.preparation.check_budget",
        "launch.cli.train.train_in_full",
        "launch.reports.costs.run_calibration",
        "launch.reports.costs.describe",
        "launch.reports.costs.proxy_rows",
    ):
        monkeypatch.setattr(name, stop)
    return tmp_path


def fuzz(seed: int, lines: int, here: Path, capsys: pytest.CaptureFixture[str], bounded: Bounded) -> None:
    rng = random.Random(seed)
    for _ in range(lines):
        line = a_line(rng)
        before = sorted(here.rglob("*"))
        with bounded(line):
            code = cli.run(line)
        printed = capsys.readouterr()
        assert code in (cli.SUCCESS, cli.FAILED, cli.USER_ERROR), line
        if code != cli.SUCCESS:
            assert 1 <= len(printed.err.splitlines()) <= 12, (line, printed.err)
            assert "Traceback" not in printed.err, line
            assert all(text.isprintable() for text in printed.err.splitlines()), (line, printed.err)
            assert sorted(here.rglob("*")) == before, (line, "left something behind")


def test_command_lines_at_random(here: Path, capsys: pytest.CaptureFixture[str], bounded: Bounded) -> None:
    fuzz(0, 300, here, capsys, bounded)


@pytest.mark.repeated
@pytest.mark.parametrize("seed", range(1, 11))
def test_two_thousand_more(seed: int, here: Path, capsys: pytest.CaptureFixture[str], bounded: Bounded) -> None:
    fuzz(seed, 200, here, capsys, bounded)
