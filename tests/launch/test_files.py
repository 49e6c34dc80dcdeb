"""If an output cannot be written, a command says so in one line before its work, and creates nothing."""

import errno
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from launch import cli
from launch.files import check_file, check_folder, in_words, naming, naming_output, write_text
from launch.rundir.run import Run


def told(work: Callable[[], None]) -> str:
    """The message to the user for the OSError that this raises."""
    try:
        work()
    except OSError as error:
        return str(in_words(error))
    return "no error"


STANDS = "is a file, but a folder is needed"
CIRCLE = "its links form a loop"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a folder, a file, a link to itself and a dangling link."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("new/target.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


FILES = [
    ("folder", "folder: is a folder, but a file is needed"),
    ("file/out.yaml", f"file: {STANDS}"),
    ("file/a/b/out.yaml", f"file: {STANDS}"),
    ("loop", f"loop: {CIRCLE}"),
    ("loop/out.yaml", f"out.yaml: {CIRCLE}"),
    ("x" * 300, "a name in this path is too long"),
    (f"{'x' * 300}/out.yaml", "a name in this path is too long"),
]
FOLDERS = [("file", f"file: {STANDS}"), ("file/run", f"file: {STANDS}"), ("loop", CIRCLE), ("x" * 300, "is too long")]


@pytest.mark.parametrize(("path", "message"), FILES)
def test_an_unwritable_file_is_reported_and_not_created(path: str, message: str, folder: Path) -> None:
    before = sorted(folder.rglob("*"))
    assert message in told(lambda: check_file(Path(path)))
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("path", "message"), FOLDERS)
def test_a_folder_that_cannot_be_written_into(path: str, message: str, folder: Path) -> None:
    assert message in told(lambda: check_folder(Path(path)))


@pytest.mark.parametrize("path", ["file", "new.yaml", "a/b/new.yaml", "dangling", "/dev/null"])
def test_writable_outputs_pass_and_nothing_is_created(path: str, folder: Path) -> None:
    check_file(Path(path))
    check_folder(Path("folder/a/b"))
    assert sorted(entry.name for entry in folder.rglob("*")) == ["dangling", "file", "folder", "loop"]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("flag", "remedy"), [(0, "permission denied"), (os.ST_RDONLY, "read-only file system")])
def test_rights_and_disks_that_are_read_only(flag: int, remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stat:
        f_flag = flag

    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    monkeypatch.setattr(os, "statvfs", lambda _path: Stat)
    assert remedy in told(lambda: check_file(Path("folder/new")))
    assert remedy in told(lambda: check_folder(Path("folder/new")))


def test_an_error_without_a_file_gets_the_one_that_was_written() -> None:
    def write() -> None:
        with naming(Path("run")):
            raise OSError(errno.ENOSPC, "No space left on device")

    assert told(write) == "run: the disk is full: make room there, or choose another place"
    assert in_words(ConnectionRefusedError(111, "Connection refused")) is None
    assert in_words(OSError("of another kind")) is None


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk_is_named() -> None:
    assert told(lambda: write_text(Path("/dev/full"), "x")).startswith("/dev/full: the disk is full")


LINES = [
    "calibrate shapes -o {}",
    "launch slurm shapes -o {}",
    "launch slurm shapes --submit -o {}",
    "launch kuberay shapes --image a/b:1 --claim c -o {}",
    "launch ray-up shapes --provider local --hosts a,b -o {}",
]
FOLDER_LINES = ["search shapes --run {}", "train se_resnet50 --recipe shapes -o {}"]


@pytest.mark.parametrize(
    ("line", "path", "message"),
    [(line, *case) for line in LINES for case in FILES] + [(line, *case) for line in FOLDER_LINES for case in FOLDERS],
    ids=lambda value: value[:40],
)
def test_every_command_reports_an_unwritable_output_before_its_work(
    line: str,
    path: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def works(*_: object, **__: object) -> None:
        raise AssertionError("the work began")

    for name in (
        "launch.reports.costs.run_calibration",
        "launch.cli.preparation.load_fitting",
        "launch.training.load_data",
    ):
        monkeypatch.setattr(name, works)
    before = sorted(folder.rglob("*"))
    assert cli.run(line.format(path).split()) == cli.USER_ERROR
    printed = capsys.readouterr().err
    assert re.fullmatch(f"nas: .*{message}.*\n", printed), printed
    assert sorted(folder.rglob("*")) == before


@pytest.mark.usefixtures("folder")
def test_submit_makes_the_folder_of_its_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["launch", "slurm", "shapes", "--submit", "-o", "new/x.sbatch"]) == cli.USER_ERROR
    assert "there is no sbatch on this machine; new/x.sbatch is written" in capsys.readouterr().err
    assert Path("new/x.sbatch").read_text().startswith("#!")


def test_a_report_that_cannot_be_written_is_printed_all_the_same(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(jobs=3)
    (run.folder / "report").write_text("in the way")
    for option in ([], ["--json"]):
        assert cli.run(["report", str(run.folder), *option]) == cli.SUCCESS
        printed = capsys.readouterr()
        assert "plain (" in printed.out
        assert "report.html" not in printed.out
        assert re.fullmatch(f"nas: the report's files are not written: .*/report: {STANDS}.*\n", printed.err)


def test_a_search_that_a_full_disk_ends_says_how_to_continue(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    run = make_run(jobs=1)
    monkeypatch.setattr("launch.session.search", full)
    assert cli.run(["resume", str(run.folder)]) == cli.USER_ERROR
    printed = capsys.readouterr().err
    assert printed.splitlines() == [
        f"nas: {run.folder}: the disk is full: make room there, or choose another place. "
        f"Finished work is kept; continue with: nas resume {run.folder}"
    ]


@pytest.mark.parametrize("name", ["two\nlines", "blank "])
def test_a_name_that_cannot_be_seen_is_quoted_at_every_door(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("- no run\n")
    lines = [
        *([command, name] for command in ("show", "search", "cost", "status", "report", "data")),
        ["search", "shapes", "--run", name],
        ["launch", "slurm", "shapes", "-o", f"{name}/x"],
        ["train", "se_resnet50", "--recipe", "shapes", "-o", name],
    ]
    for line in lines:
        assert cli.run(line) == cli.USER_ERROR, line
        printed = capsys.readouterr().err
        assert repr(name)[1:] in printed, (line, printed)  # behind a folder, or alone
        assert len(printed.splitlines()) <= 2, (line, printed)


OUTPUTS = {
    "/dev/full": "standard output cannot be written (no space left on device): send it to another file, or to "
    "/dev/null",
    "&-": "standard output is closed: open it, or send it to /dev/null",
}


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
@pytest.mark.parametrize(
    ("buffered", "command", "output"),
    [("", "schema run", "/dev/full"), ("yes", "--help", "/dev/full"), ("", "--help", "&-")],
)
def test_a_failure_of_standard_output_is_reported_as_such(
    buffered: str, command: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "" if buffered else "1")
    shell = f'"$1" -m launch.cli {command} >{output}'
    done = subprocess.run(["bash", "-c", shell, "bash", sys.executable], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (cli.USER_ERROR, f"nas: {OUTPUTS[output]}\n")


def test_a_search_whose_output_fails_does_not_blame_its_folder(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(jobs=1)
    with os.fdopen(os.open("/dev/full", os.O_WRONLY), "w") as full:
        output = naming_output(full)
        monkeypatch.setattr("launch.session.search", lambda *_: print("progress", file=output, flush=True))
        assert cli.run(["resume", str(run.folder)]) == cli.USER_ERROR
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert capsys.readouterr().err.startswith("nas: standard output cannot be written (no space left on device): ")


def test_a_folder_without_a_run_may_hold_any_files(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "python").symlink_to(sys.executable)
    for command in ("status", "report", "resume", "export"):
        assert cli.run([command, "."]) == cli.USER_ERROR
        assert capsys.readouterr().err == "nas: . holds no run: journal.log is not there\n"
