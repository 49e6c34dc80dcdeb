from pathlib import Path

from launch.rundir.checkpoints import newest_first, path_of, prune, remove_except


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
