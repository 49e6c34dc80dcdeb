"""`nas data` shows how a search would read a folder."""

import json
from pathlib import Path

import pytest
from PIL import Image

from launch.cli.app import run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two classes, an ignored file, and an unreadable picture."""
    root = tmp_path / "pictures"
    for label, name in enumerate(("cat [x]", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(12):
            Image.new("RGB", (9, 6), (100 * label, i, 0)).save(root / name / f"{i}.png")
    (root / "dog" / "x.heic").touch()
    (root / "dog" / "3.png").write_bytes(b"")
    return root


def test_the_table_and_the_warnings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder}: 23 pictures of 2 classes"
    assert "left out: 1 x ending .heic, which is not read, such as dog/x.heic" in lines
    assert any(line.startswith("cannot be read: dog/3.png (an empty file)") for line in lines)
    assert any(line.split() == ["dog", "11", "9", "1", "1"] for line in lines)
    assert "warning: left out: dog/x.heic (ending .heic, which is not read)" in lines
    assert lines[-1].startswith("checked: the header and the end of every file")


def test_the_same_for_programs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", str(folder), "--json", "--set", "data.val_size=6"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == ["cat [x]", "dog"]
    assert found["counts"] == {"train": [12, 11]}
    assert found["splits"] == {"train": [8, 7], "val": [3, 3], "test": [1, 1]}
    assert list(found["unreadable"]) == ["dog/3.png"]


def test_a_missing_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", str(tmp_path / "absent")]) == 2
    assert "absent is no folder" in capsys.readouterr().err
