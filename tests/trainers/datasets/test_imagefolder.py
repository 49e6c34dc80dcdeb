from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainers import DataConfig, DataError, TrainerConfig, Training, load_data
from trainers.batches import Batches
from trainers.datasets import Arrays, Files


def write_folder(root: Path, per_class: int, classes: str = "abc", size: tuple[int, int] = (40, 30)) -> None:
    """Class i is a flat picture of red 80 i, with green telling the pictures apart."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            Image.new("RGB", size, (80 * label, 5 * i, 0)).save(root / name / f"{i}.png")


def folder_config(root: Path, **changes: object) -> DataConfig:
    return DataConfig(name="imagefolder", root=str(root), image_size=16, **{"workers": 0, **changes})


class TestImagefolder:
    def test_a_plain_tree_is_split_three_ways(self, tmp_path: Path) -> None:
        write_folder(tmp_path, 20)
        data = load_data(folder_config(tmp_path))
        assert (len(data.train), len(data.val), len(data.test)) == (49, 5, 6)
        parts = [set(split.paths.tolist()) for split in (data.train, data.val, data.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 60
        assert data.classes == ("a", "b", "c")

    def test_val_alone_plays_the_test_set(self, tmp_path: Path) -> None:
        write_folder(tmp_path / "train", 10)
        write_folder(tmp_path / "val", 4)
        data = load_data(folder_config(tmp_path, val_size=6))
        assert (len(data.train), len(data.val), len(data.test)) == (24, 6, 12)
        assert data.test.root == str(tmp_path / "val")

    def test_three_folders_are_taken_as_they_are(self, tmp_path: Path) -> None:
        for name, count in (("train", 10), ("val", 2), ("test", 3)):
            write_folder(tmp_path / name, count)
        data = load_data(folder_config(tmp_path))
        assert (len(data.train), len(data.val), len(data.test)) == (30, 6, 9)
        assert [Path(split.root).name for split in (data.train, data.val, data.test)] == ["train", "val", "test"]

    @pytest.mark.parametrize("in_memory", [True, False])
    def test_images_have_their_labels_whatever_way_they_come(self, tmp_path: Path, in_memory: bool) -> None:
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

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_file_that_is_no_image_is_named(self, tmp_path: Path, workers: int) -> None:
        write_folder(tmp_path, 10)
        for name in "abc":
            for path in (tmp_path / name).iterdir():
                path.write_bytes(path.read_bytes()[:50])
        data = load_data(folder_config(tmp_path, workers=workers))
        feed = Batches(data, 4, torch.device("cpu"), torch.channels_last)
        with pytest.raises(DataError, match=r"\.png: cannot be read as an image .*; repair or remove it$"):
            list(feed.train(0, 0, True))
        with pytest.raises(DataError, match="cannot be read as an image"):
            load_data(folder_config(tmp_path, in_memory=True))

    def test_trains(self, tmp_path: Path) -> None:
        write_folder(tmp_path, 10)
        data = load_data(folder_config(tmp_path))
        from search_spaces import parse_architecture

        skeleton = "{family: resnet, depth: 8, width: 2, image_size: 16, num_classes: 3}"
        architecture = parse_architecture(f"schema: 1\nskeleton: {skeleton}\n", "test")
        training = Training(architecture, data, TrainerConfig(epochs=2, batch_size=8, warmup_epochs=0))
        assert training.run_epoch().val["loss"] > 0

    @pytest.mark.parametrize(
        ("folders", "told"),
        [
            ([], "has 0 class folders and needs at least 2"),
            (["a"], "has 1 class folders and needs at least 2"),
            (["train/a", "train/b", "val/a", "val/c"], "val/c is no class of the training data"),
        ],
    )
    def test_what_is_wrong_with_the_tree_is_told(self, tmp_path: Path, folders: list[str], told: str) -> None:
        for folder in folders:
            (tmp_path / folder).mkdir(parents=True)
        with pytest.raises(DataError) as caught:
            load_data(folder_config(tmp_path))
        assert told in str(caught.value)
        assert str(tmp_path) in str(caught.value)

    def test_too_few_images(self, tmp_path: Path) -> None:
        write_folder(tmp_path, 2, classes="ab")
        with pytest.raises(DataError, match="are too few"):
            load_data(folder_config(tmp_path))
