from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainers import DataConfig, DataError, TrainerConfig, Training, load_data
from trainers.batches import Batches
from trainers.datasets import Arrays, Files

WriteFolder = Callable[..., None]


def folder_config(root: Path, **changes: object) -> DataConfig:
    return DataConfig(name="imagefolder", root=str(root), image_size=16, **{"workers": 0, **changes})


class TestImagefolder:
    def test_a_plain_tree_is_split_three_ways(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 20)
        data = load_data(folder_config(tmp_path))
        assert (len(data.train), len(data.val), len(data.test)) == (49, 5, 6)
        parts = [set(split.paths.tolist()) for split in (data.train, data.val, data.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 60
        assert data.classes == ("a", "b", "c")

    def test_a_val_folder_alone_is_the_test_set(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path / "train", 10)
        write_folder(tmp_path / "val", 4)
        data = load_data(folder_config(tmp_path, val_size=6))
        assert (len(data.train), len(data.val), len(data.test)) == (24, 6, 12)
        assert data.test.root == str(tmp_path / "val")

    def test_three_folders_are_taken_as_they_are(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        for name, count in (("train", 10), ("val", 2), ("test", 3)):
            write_folder(tmp_path / name, count)
        data = load_data(folder_config(tmp_path))
        assert (len(data.train), len(data.val), len(data.test)) == (30, 6, 9)
        assert [Path(split.root).name for split in (data.train, data.val, data.test)] == ["train", "val", "test"]

    @pytest.mark.parametrize("in_memory", [True, False])
    def test_images_have_their_labels_in_every_layout(
        self, write_folder: WriteFolder, tmp_path: Path, in_memory: bool
    ) -> None:
        write_folder(tmp_path, 8)
        data = load_data(folder_config(tmp_path, in_memory=in_memory))
        assert isinstance(data.train, Arrays if in_memory else Files)
        feed = Batches(data, 4, torch.device("cpu"), torch.channels_last)
        red = torch.tensor(data.std[0]), torch.tensor(data.mean[0])
        for stream in (feed.train(0, 0, True), feed.train(0, 0, False), feed.evaluate(data.test)):
            for images, labels in stream:
                assert images.shape[1:] == (3, 16, 16)
                shown = (images[:, 0].mean((1, 2)) * red[0] + red[1]) * 255
                assert torch.allclose(shown, 80.0 * labels, atol=1)

    def test_decoding_processes_change_nothing(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        for name in "ab":
            (tmp_path / name).mkdir()
            for i in range(9):
                Image.fromarray(rng.integers(256, size=(30, 40, 3), dtype=np.uint8)).save(tmp_path / name / f"{i}.png")
        epochs = []
        for workers in (0, 2):
            data = load_data(folder_config(tmp_path, workers=workers))
            feed = Batches(data, 4, torch.device("cpu"), torch.channels_last)
            epochs.append([torch.cat([images for images, _ in feed.train(epoch, 7, True)]) for epoch in (0, 1)])
        assert torch.equal(epochs[0][0], epochs[1][0])
        assert torch.equal(epochs[0][1], epochs[1][1])
        assert not torch.equal(epochs[0][0], epochs[0][1])

    def test_pictures_that_break_after_the_inspection_cause_one_warning(
        self, write_folder: WriteFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_folder(tmp_path, 20)
        for workers in (0, 1):
            data = load_data(folder_config(tmp_path, workers=workers))
            assert isinstance(data.train, Files)
            broken = [data.train.path(0), data.val.path(0)]
            whole = [path.read_bytes() for path in broken]
            for path in broken:
                path.write_bytes(path.read_bytes()[:60])
            feed = Batches(
                replace(data, train=replace(data.train, may_lack=2)), 7, torch.device("cpu"), torch.channels_last
            )
            for images, labels in feed.train(0, 0, True):
                assert len(images) == len(labels) == 7
                shown = (images[:, 0].mean((1, 2)) * data.std[0] + data.mean[0]) * 255
                assert torch.allclose(shown, 80.0 * labels, atol=1)  # another one of the class
            val = replace(data.val, may_lack=2)
            assert sum(len(images) for images, _ in feed.evaluate(val)) == len(val) - 1
            assert len(list(feed.train(1, 0, True))) == feed.steps
            told = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
            assert [str(path) in line for path, line in zip(broken, told, strict=True)] == [True, True]
            caplog.clear()
            for path, content in zip(broken, whole, strict=True):
                path.write_bytes(content)

    def test_too_many_unreadable_pictures_are_an_error(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 20)
        data = load_data(folder_config(tmp_path, max_unreadable=0.0))
        data.train.path(3).write_bytes(b"")
        feed = Batches(data, 7, torch.device("cpu"), torch.channels_last)
        with pytest.raises(DataError, match=r"\.png: cannot be read .*; data.max_unreadable allows no more of them$"):
            list(feed.train(0, 0, True))

    @pytest.mark.parametrize("in_memory", [True, False])
    def test_splits_are_carved_with_every_class_where_there_are_three(
        self, write_folder: WriteFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture, in_memory: bool
    ) -> None:
        for name, count in (("a", 3), ("b", 2), ("c", 100)):
            write_folder(tmp_path, count, classes=name, first="abc".index(name))
        data = load_data(folder_config(tmp_path, in_memory=in_memory))
        counts = [np.bincount(split.labels, minlength=3).tolist() for split in (data.train, data.val, data.test)]
        assert [count[:2] for count in counts] == [[1, 1], [1, 1], [1, 0]]
        assert "carved out of the training data, has no picture of b" in caplog.text
        assert "few of a (1), b (1)" in caplog.text

    def test_duplicates_are_never_in_two_splits(
        self, write_folder: WriteFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        write_folder(tmp_path, 20)
        for name in "abc":
            for i in range(8):
                copied = tmp_path / name / f"{i}-Copy1.png"
                if i % 2:
                    copied.symlink_to(f"{i}.png")
                else:
                    copied.write_bytes((tmp_path / name / f"{i}.png").read_bytes())
        data = load_data(folder_config(tmp_path))
        contents = [
            {split.path(i).read_bytes() for i in range(len(split))} for split in (data.train, data.val, data.test)
        ]
        assert not contents[0] & contents[1]
        assert not contents[0] & contents[2]
        assert not contents[1] & contents[2]
        assert [len(data.val), len(data.test)] == [len(content) for content in contents[1:]]
        assert len(data.train) > len(contents[0])  # duplicates within the split stay: they may be intended
        assert "24 of 84 pictures of the training data are copies of others" in caplog.text

    def test_trains(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 10)
        data = load_data(folder_config(tmp_path))
        from search_spaces import parse_architecture

        skeleton = "{family: resnet, depth: 8, width: 8, image_size: 16, num_classes: 3}"
        architecture = parse_architecture(f"schema: 1\nskeleton: {skeleton}\n", "test")
        training = Training(architecture, data, TrainerConfig(epochs=2, batch_size=8, warmup_epochs=0))
        assert training.run_epoch().val["loss"] > 0

    def test_a_long_inspection_says_how_far_it_is_on_a_terminal(
        self,
        write_folder: WriteFolder,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        write_folder(tmp_path, 50)
        monkeypatch.setattr("trainers.datasets.imagefolder._MANY", 100)
        load_data(folder_config(tmp_path))
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        load_data(folder_config(tmp_path))
        assert capsys.readouterr().err == "\rlooking at pictures: 100 of 150\rlooking at pictures: 150 of 150\n"

    def test_too_few_images(self, write_folder: WriteFolder, tmp_path: Path) -> None:
        write_folder(tmp_path, 2, classes="ab")
        with pytest.raises(DataError, match="are too few"):
            load_data(folder_config(tmp_path))
