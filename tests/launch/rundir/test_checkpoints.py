from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from launch.rundir import names
from launch.rundir.checkpoints import newest_first, path_of, prune, remove_except
from launch.rundir.run import Run, open_run
from launch.session import lost_checkpoints
from trainers.checkpoint import save


def test_the_newest_come_first_and_strangers_are_ignored(tmp_path: Path) -> None:
    for epoch in (2, 10, 1):
        path_of(tmp_path, epoch).touch()
    (tmp_path / ".epoch-0011.pt.123").touch()
    assert [path.name for path in newest_first(tmp_path, at_most=9)] == ["epoch-0002.pt", "epoch-0001.pt"]
    prune(tmp_path, keep=2)
    assert [path.name for path in newest_first(tmp_path, at_most=99)] == ["epoch-0010.pt", "epoch-0002.pt"]


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert newest_first(tmp_path / "none", at_most=9) == []
    remove_except(tmp_path / "none", set())


def test_checkpoints_of_ended_trials_are_removed(tmp_path: Path) -> None:
    for name in ("1", "2", "notes"):
        path_of(tmp_path / name, 1).touch()
    remove_except(tmp_path, {2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "notes"]


def test_a_resumed_search_names_the_checkpoints_that_are_lost(make_run: Callable[..., Run]) -> None:
    """Of trials under way; the others need none."""
    run, trials = open_run(make_run(jobs=4).folder)
    done = [trial for trial in trials if trial.plan is not None]
    _, second, third, fourth = (trial.number for trial in done)
    under_way = [replace(trial, status="active", stop_epoch=trial.last_epoch + 1) for trial in done]
    folder = run.folder / names.CHECKPOINTS
    for trial in done[:3]:
        for epoch in (trial.last_epoch - 1, trial.last_epoch):
            save(path_of(folder / str(trial.number), epoch), {"x": torch.zeros(3)}, {})
    newest = path_of(folder / str(second), done[1].last_epoch)
    newest.write_bytes(newest.read_bytes()[:-1])
    only = path_of(folder / str(third), done[2].last_epoch)
    only.write_bytes(b"")
    path_of(folder / str(third), done[2].last_epoch - 1).unlink()
    assert list(lost_checkpoints(run, under_way)) == [
        f"{newest} is damaged: trial {second} continues from an older one",
        f"{only} is damaged: trial {third} starts anew",
        f"trial {fourth} has no checkpoint in {folder / str(fourth)}: it starts anew",
    ]
    assert list(lost_checkpoints(run, done)) == []
