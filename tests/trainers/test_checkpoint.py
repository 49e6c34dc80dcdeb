import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces import Architecture
from trainers import CheckpointError, Dataset, TrainerConfig, Training, checkpoint, fit
from trainers.checkpoint import DamagedError

CONFIG = TrainerConfig(epochs=3, batch_size=32, warmup_epochs=1)


def flat(architecture: Architecture) -> nn.Module:
    classes = architecture.skeleton.num_classes
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, classes), nn.BatchNorm1d(classes))


class TestCheckpoint:
    @pytest.fixture
    def trained(self, small_network: Architecture, small_shapes: Dataset) -> Training:
        training = Training(small_network, small_shapes, CONFIG, build=flat)
        training.run_epoch()
        return training

    def test_holds_what_inference_needs(self, trained: Training, small_shapes: Dataset, tmp_path: Path) -> None:
        trained.save(tmp_path / "new" / "checkpoint.pt")
        state = torch.load(tmp_path / "new" / "checkpoint.pt", weights_only=True)
        assert (state["mean"], state["std"], state["classes"]) == (
            small_shapes.mean,
            small_shapes.std,
            small_shapes.classes,
        )
        assert state["model"].keys() == trained.model.state_dict().keys()
        assert "schema: 1" in state["architecture"]

    @pytest.mark.parametrize("failing", ["torch.save", "os.fsync"])
    def test_a_failed_write_leaves_the_old_file_and_no_other(
        self, trained: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
    ) -> None:
        path = tmp_path / "checkpoint.pt"
        trained.save(path)
        before = path.read_bytes()

        def full_disk(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(failing, full_disk)
        with pytest.raises(OSError, match="No space left"):
            trained.save(path)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"seed": 3}, "seed 0, but this one has 3"),
            ({"epochs": 9}, "epochs 3, but this one has 9"),
            ({"config": CONFIG.model_copy(update={"lr": 0.2})}, "lr 0.1, but this one has 0.2"),
        ],
    )
    def test_a_checkpoint_of_another_training_is_refused(
        self,
        trained: Training,
        small_network: Architecture,
        small_shapes: Dataset,
        tmp_path: Path,
        changes: dict[str, Any],
        told: str,
    ) -> None:
        trained.save(tmp_path / "checkpoint.pt")
        arguments = {"config": CONFIG, **changes}
        other = Training(small_network, small_shapes, arguments.pop("config"), build=flat, **arguments)
        with pytest.raises(CheckpointError, match=re.escape(told)):
            other.restore(tmp_path / "checkpoint.pt")

    def test_a_checkpoint_of_other_images_is_refused(
        self, trained: Training, small_network: Architecture, small_shapes: Dataset, tmp_path: Path
    ) -> None:
        trained.save(tmp_path / "checkpoint.pt")
        fewer = replace(small_shapes, train=small_shapes.train.take(np.arange(100)))
        with pytest.raises(CheckpointError, match="training images 150, but this one has 100"):
            Training(small_network, fewer, CONFIG, build=flat).restore(tmp_path / "checkpoint.pt")

    def test_a_class_of_another_name_is_refused(
        self, trained: Training, small_network: Architecture, small_shapes: Dataset, tmp_path: Path
    ) -> None:
        """A renamed class may have another place in the alphabet, which changes the numbers of the others."""
        trained.save(tmp_path / "checkpoint.pt")
        renamed = replace(small_shapes, classes=tuple(sorted(["zebra", *small_shapes.classes[1:]])))
        with pytest.raises(CheckpointError, match=re.escape("from a training with classes (0: red), but this one has")):
            Training(small_network, renamed, CONFIG, build=flat).restore(tmp_path / "checkpoint.pt")

    def test_a_checkpoint_of_an_older_format_is_reported(self, trained: Training, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.pt"
        checkpoint.save(path, {"format": 1}, {})
        with pytest.raises(CheckpointError, match="of format 1, but this version reads format 4; remove it"):
            trained.restore(path)

    def test_one_byte_changed_is_refused(self, trained: Training, tmp_path: Path) -> None:
        path = tmp_path / "checkpoint.pt"
        trained.save(path)
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        ends = [0, len(whole) - 1, len(whole) - 33, len(whole) - 45]
        for at in [*ends, *rng.integers(len(whole), size=100).tolist()]:
            changed = bytearray(whole)
            changed[at] ^= 1 << int(rng.integers(8))
            path.write_bytes(changed)
            with pytest.raises(DamagedError, match="not a whole checkpoint"):
                trained.restore(path)
        path.write_bytes(whole)
        trained.restore(path)

    def test_a_damaged_file_falls_back_to_the_one_before(
        self, small_network: Architecture, small_shapes: Dataset, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        path = tmp_path / "checkpoint.pt"
        whole = Training(small_network, small_shapes, CONFIG, build=flat)
        list(fit(whole, path))
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        again = Training(small_network, small_shapes, CONFIG, build=flat)
        assert [result.epoch for result in fit(again, path)] == [3]
        assert all(torch.equal(a, b) for a, b in zip(again.model.parameters(), whole.model.parameters(), strict=True))
        (record,) = caplog.records
        assert record.getMessage() == f"{path}: damaged; training continues from {tmp_path / 'checkpoint.before.pt'}"

    @pytest.mark.parametrize("content", [b"", b"no checkpoint", "truncated", "pickle"])
    def test_a_damaged_or_hostile_file_is_refused(
        self, trained: Training, tmp_path: Path, content: bytes | str
    ) -> None:
        path = tmp_path / "checkpoint.pt"
        trained.save(path)
        if content == "truncated":
            path.write_bytes(path.read_bytes()[:-1000])
        elif content == "pickle":
            torch.save({"training": Hostile(tmp_path / "executed")}, path)
            with path.open("r+b") as file:
                checkpoint._seal(file)
        else:
            path.write_bytes(content)
        with pytest.raises(CheckpointError, match=r"not a (whole|readable) checkpoint"):
            trained.restore(path)
        assert trained.epoch == 1
        assert not (tmp_path / "executed").exists()

    def test_a_missing_file_is_not_a_damaged_one(self, trained: Training, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            trained.restore(tmp_path / "absent.pt")


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)
