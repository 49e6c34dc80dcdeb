"""A run folder from a stranger is refused in one line, and nothing in it is executed."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from launch import cli
from launch.ray.worker import Worker
from launch.rundir.beginning import begin, foreign
from launch.rundir.config import RunConfig
from launch.rundir.guard import check_files
from launch.rundir.run import Run, open_run
from nas.costs import CostEstimate
from nas.costs.store import DamagedCosts, Store
from nas.search import JournalError
from search_spaces import Architecture, load_space
from trainers import CheckpointError, DataConfig, TrainerConfig, Training, load_data

READERS = ("report", "resume", "export", "status")


class Bomb:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def run(make_run: Callable[..., Run]) -> Run:
    return make_run(jobs=3)


def refused(run: Run, capsys: pytest.CaptureFixture[str], *, by: tuple[str, ...] = READERS) -> str:
    """The error line of the commands that read the run, which is the same for all."""
    said = set()
    for command in by:
        assert cli.run([command, str(run.folder)]) == cli.USER_ERROR, command
        printed = capsys.readouterr()
        assert not printed.out
        assert len(printed.err.splitlines()) == 1, printed.err
        assert "Traceback" not in printed.err
        assert printed.err.strip().isprintable()
        said.add(printed.err)
    assert len(said) == 1
    return said.pop()


def rewrite(run: Run, change: Callable[[dict[str, Any]], dict[str, Any] | str]) -> None:
    """Passes every record of the journal through `change`."""
    path = run.folder / "journal.log"
    changed = [change({**json.loads(line), "seal": None}) for line in path.read_text().splitlines()]
    for record in changed:  # as a stranger would who knows of the seals: without any
        if isinstance(record, dict):
            record.pop("seal")
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in changed))


def with_attribute(name: str, value: object) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """A change of an attribute, of the study's or of trials'."""

    def change(record: dict[str, Any]) -> dict[str, Any]:
        for attrs in ("user_attr", "system_attr", "user_attrs", "system_attrs"):
            if name in record.get(attrs, {}):
                record[attrs][name] = value
        return record

    return change


def with_space(text: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def change(record: dict[str, Any]) -> dict[str, Any]:
        if "settings" in record.get("user_attr", {}):
            record["user_attr"]["settings"]["space"] = text
        return record

    return change


# --- files that lead out of the folder


@pytest.mark.parametrize(
    "place", ["journal.log", "checkpoints", "checkpoints/3", "report", "tensorboard", "costs.jsonl", "driver.lock"]
)
def test_links_that_leave_the_folder(place: str, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "epoch-0001.pt").write_text("precious")
    link = run.folder / place
    link.parent.mkdir(exist_ok=True)
    if link.is_file():
        link.rename(outside / link.name)
        outside = outside / link.name
    link.symlink_to(outside)
    line = refused(run, capsys)
    assert str(link) in line
    assert "is a link to" in line
    assert (tmp_path / "outside" / "epoch-0001.pt").read_text() == "precious"


def test_links_within_the_folder_and_to_it_are_fine(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run.folder / "newest").symlink_to(run.folder / "journal.log")
    (run.folder / "journal.log.lock").symlink_to("/mounted/elsewhere/journal.log")  # Optuna's, never followed
    (tmp_path / "linked").symlink_to(run.folder)
    assert cli.run(["report", str(tmp_path / "linked")]) == cli.SUCCESS


def test_a_pipe_that_never_ends(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(run.folder / "costs.jsonl")
    assert "neither a file nor a folder" in refused(run, capsys)


def test_an_object_store_is_no_folder(config: RunConfig, capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise its address would become the name of a folder."""
    for command in READERS:
        assert cli.run([command, "s3://bucket/run"]) == cli.USER_ERROR
        assert "is in an object store" in capsys.readouterr().err
    with pytest.raises(JournalError, match="is in an object store"):
        begin(Path("gs://bucket/run"), config, load_space("shapes"))


def test_a_folder_that_a_driver_is_just_removing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "checkpoints" / "3").mkdir(parents=True)
    scandir = os.scandir

    def removed_since(path: Path) -> object:
        if path.name == "3":
            path.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", removed_since)
    check_files(tmp_path)
    assert not (tmp_path / "checkpoints" / "3").exists()


def test_overwriting_a_run_follows_no_link(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (run.folder / "report").symlink_to(precious)
    assert cli.run(["search", "shapes", "--run", str(run.folder), "--overwrite"]) == cli.USER_ERROR
    assert "is a link to" in capsys.readouterr().err
    assert precious.is_dir()
    assert (run.folder / "journal.log").is_file()


# --- journals of nonsense


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: [] if record["op_code"] else record, "line 2, at byte 75: it is not a JSON object"),
        (lambda record: {**record, "op_code": "import os"}, "line 1: op_code: Input tag 'import os'"),
        (lambda record: {**record, "op_code": 99}, "line 1: op_code: Input tag '99'"),
        (lambda record: "[" * 100_000 + "]" * 100_000, "line 1, at byte 0: it is not JSON"),
        (with_attribute("settings", "x"), "its journal has no settings"),
        (with_attribute("settings", {"config": {"objectives": ["__class__"]}, "space": ""}), "unknown objective"),
        (
            with_attribute("architecture", {"schema": 1, "skeleton": {"family": "os"}, "placements": {}}),
            "its skeleton is ",
        ),
        (
            with_attribute("architecture", {"schema": 1, "skeleton": {}, "placements": {"../x": {}}}),
            "its skeleton is ",
        ),
        (with_attribute("epoch:1", {"epoch": "1"}), "trial 0: epoch:1.epoch: Input should be a valid integer"),
        (
            with_attribute("costs", {"macs": {"value": "os.system"}}),
            "trial 0: costs.macs.value: ",
        ),
        (with_attribute("budget", []), "trial 0: budget: Input should be"),
        (with_attribute("origin", "\x1b]0;owned\x07"), r"trial 0: origin: '\x1b]0;owned\x07' is not an origin"),
        (with_attribute("origin", "hand:../../x"), "trial 0: origin: 'hand:../../x' is not an origin"),
        (with_attribute("limits", {"macs": None}), "limits.macs: Input should be a valid number"),
    ],
)
def test_a_journal_that_no_driver_wrote(
    change: Callable[[dict[str, Any]], Any], message: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(run, change)
    assert message in refused(run, capsys)


def with_settings(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def changed(record: dict[str, Any]) -> dict[str, Any]:
        if "settings" in record.get("user_attr", {}):
            change(record["user_attr"]["settings"])
        return record

    return changed


def other_version(settings: dict[str, Any]) -> None:
    settings["version"] = "9.9"
    settings["config"]["search"]["warm_start"] = None


def other_sampler(settings: dict[str, Any]) -> None:
    settings["version"] = "9.9"
    settings["config"]["search"]["sampler"] = "oracle"


def other_objectives(settings: dict[str, Any]) -> None:
    settings["config"]["objectives"] = ["top1", "params"]


def shorter(settings: dict[str, Any]) -> None:
    settings["config"]["trainer"]["epochs"] = 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            other_version,
            "was begun by version 9.9 of nas, and this is 0.1.0: unknown key search.warm_start; use that version",
        ),
        (other_sampler, "was begun by version 9.9 of nas, and this is 0.1.0: settings.config.search.sampler: Input"),
        (other_objectives, "settings.config.objectives: top1, params; the study is of top1, macs"),
        (shorter, "trainer.epochs is 3"),
    ],
)
def test_settings_that_do_not_fit(
    change: Callable[[dict[str, Any]], None], message: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    rewrite(run, with_settings(change))
    assert message in refused(run, capsys)


def test_records_of_another_version_are_not_called_damaged(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    def newer(record: dict[str, Any]) -> dict[str, Any]:
        attributes = record.get("user_attr", {})
        if "settings" in attributes:
            attributes["settings"]["version"] = "9.9"
        for name in attributes:
            if name.startswith("epoch:"):
                attributes[name]["weather"] = "fair"
        return record

    rewrite(run, newer)
    assert "was begun by version 9.9 of nas, and this is 0.1.0: it has records that this" in refused(run, capsys)


def test_a_run_that_is_overwritten_leaves_what_no_run_wrote(run: Run, config: RunConfig) -> None:
    (run.folder / "thesis.tex").write_text("precious")
    (run.folder / "checkpoints").mkdir()
    (run.folder / "checkpoints" / "old").write_text("old")
    begin(run.folder, config, load_space("shapes"), overwrite=True)
    assert foreign(run.folder) == ["thesis.tex"]
    assert (run.folder / "thesis.tex").read_text() == "precious"
    assert not (run.folder / "checkpoints").exists()
    assert open_run(run.folder)[1] == []


def test_a_folder_with_anothers_journal_is_not_overwritten(tmp_path: Path, config: RunConfig) -> None:
    (tmp_path / "journal.log").write_text("dear diary\n")
    (tmp_path / "report").mkdir()
    for overwrite in (False, True):
        with pytest.raises(JournalError, match="is not a journal of this program"):
            begin(tmp_path, config, load_space("shapes"), overwrite=overwrite)
    assert (tmp_path / "journal.log").read_text() == "dear diary\n"
    assert (tmp_path / "report").is_dir()


def test_nothing_is_downloaded_for_a_run_that_is_opened(run: Run) -> None:
    def change(settings: dict[str, Any]) -> None:
        settings["config"]["data"] |= {"name": "cifar10", "download": True}

    rewrite(run, with_settings(change))
    assert open_run(run.folder)[0].config.data.download is False


def bomb() -> str:
    """YAML whose aliases expand to a gigabyte (10^9)."""
    lines = ['a0: &a0 ["x", "x", "x", "x", "x", "x", "x", "x", "x", "x"]']
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: !!python/object/apply:os.mkdir [mark]\n", "tags are not allowed"),
        (bomb(), "has more than 10000 values, counting what aliases repeat"),
        ("name: " + "x" * (2 << 20), "is larger than 1 MiB"),
        ("a: " + "[" * 1000, "is nested deeper than 32 levels"),
        ("a: &a [*a]\n", "refers to a value that contains it"),
    ],
    ids=["tag", "alias bomb", "large", "deep", "endless"],
)
def test_yaml_in_a_journal(
    text: str,
    message: str,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    rewrite(run, with_space(text))
    for command in READERS:
        assert cli.run([command, str(run.folder)]) == cli.USER_ERROR
        printed = capsys.readouterr()
        assert message in printed.err
        assert "Traceback" not in printed.err
    assert not (tmp_path / "mark").exists()


def test_invalid_stored_costs_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "costs.jsonl"
    whole = CostEstimate(1.0, 1.0, 1.0, "ms", "measured")
    path.write_text('[]\n"x"\n' + "[" * 100_000 + '\n{"key": []}\n{"key": "a", "value": 1}\n')
    Store(path).put("a", whole)
    with pytest.warns(DamagedCosts, match="5 of 6 lines"):
        assert Store(path).get("a") == whole


def test_the_cluster_that_a_strangers_run_names_is_not_called(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(jobs=1)

    def change(record: dict[str, Any]) -> dict[str, Any]:
        if "settings" in record.get("user_attr", {}):
            record["user_attr"]["settings"]["config"]["resources"]["address"] = "ray://203.0.113.7:10001"
        return record

    rewrite(run, change)
    assert cli.run(["resume", str(run.folder)]) == cli.USER_ERROR
    printed = capsys.readouterr().err
    assert len(printed.splitlines()) == 1
    assert "--address ray://203.0.113.7:10001" in printed


# --- pickles


@pytest.fixture
def training() -> Training:
    data = load_data(DataConfig.model_validate({"name": "shapes", "train_size": 32, "val_size": 16}))
    trainer = TrainerConfig.model_validate({"epochs": 2, "batch_size": 16})
    return Training(plain(), data, trainer)


def plain() -> Architecture:
    return load_space("shapes").plain()


@pytest.mark.parametrize("write", [lambda bomb, path: path.write_bytes(pickle.dumps(bomb)), torch.save])
def test_a_checkpoint_that_is_a_pickle(write: Callable[[Bomb, Path], None], training: Training, tmp_path: Path) -> None:
    checkpoint = tmp_path / "epoch-0001.pt"
    write(Bomb(tmp_path / "mark"), checkpoint)
    with pytest.raises(CheckpointError, match="not a whole checkpoint"):
        training.restore(checkpoint)
    assert not (tmp_path / "mark").exists()


def test_a_worker_ignores_a_pickle_and_trains_from_scratch(training: Training, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints" / "0"
    folder.mkdir(parents=True)
    (folder / "epoch-0001.pt").write_bytes(pickle.dumps(Bomb(tmp_path / "mark")))
    job = {"number": 0, "architecture": plain().to_dict(), "start_epoch": 0, "stop_epoch": 1, "epochs": 2, "seed": 0}
    worker = Worker.__new__(Worker)
    worker.setup({"job": json.dumps(job)}, training._dataset, training._config, str(tmp_path / "checkpoints"))
    payload = json.loads(worker.step()["payload"])
    assert payload["outcome"]["kind"] == "reached", payload
    assert payload["record"]["epoch"] == 1
    assert not (tmp_path / "mark").exists()
