import gzip
import hashlib
import pickle
import shutil
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainers import DataConfig, DataError, TrainerConfig, Training, load_data
from trainers.batches import Batches
from trainers.data import Arrays, Files, carve

ARCHIVE = Path(__file__).parents[3] / "shared" / "data" / "fashion_mnist_torchvision.tar"


class TestCarve:
    def test_parts_are_disjoint_and_whole(self) -> None:
        labels = np.random.default_rng(0).integers(7, size=1000)
        left, taken = carve(labels, 130, seed=3)
        assert len(taken) == 130
        assert sorted([*left, *taken]) == list(range(1000))

    @pytest.mark.parametrize("count", [1, 13, 100, 999])
    def test_every_class_gives_its_share(self, count: int) -> None:
        labels = np.repeat(np.arange(5), [500, 250, 125, 100, 25])
        _, taken = carve(labels, count, seed=0)
        shares = np.bincount(labels[taken], minlength=5) - count * np.array([0.5, 0.25, 0.125, 0.1, 0.025])
        assert np.abs(shares).max() <= 1

    def test_the_seed_decides(self) -> None:
        labels = np.arange(100) % 4
        draws = [carve(labels, 20, seed)[1].tolist() for seed in (0, 0, 1)]
        assert draws[0] == draws[1] != draws[2]


def write_fashion_mnist(root: Path, train: int = 60, test: int = 20) -> None:
    """Image i of the whole holds the number i in its first two pixels."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix, count, first in (("train", train, 0), ("t10k", test, train)):
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = np.arange(first, first + count)
        (raw / f"{prefix}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 0x803, count, 28, 28) + images.tobytes())
        labels = (np.arange(count) % 10).astype(np.uint8)
        (raw / f"{prefix}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 0x801, count) + labels.tobytes())


def numbers(split: object) -> set[int]:
    assert isinstance(split, Arrays)
    return set(split.images[:, 0, 0, 0].tolist())


class TestFashionMnist:
    def test_splits_are_disjoint_and_test_is_the_files_own(self, tmp_path: Path) -> None:
        write_fashion_mnist(tmp_path)
        data = load_data(DataConfig(name="fashion_mnist", root=str(tmp_path), val_size=10))
        assert (len(data.train), len(data.val), len(data.test)) == (50, 10, 20)
        assert numbers(data.train) | numbers(data.val) == set(range(60))
        assert numbers(data.test) == set(range(60, 80))
        assert (data.in_channels, data.image_size, data.num_classes) == (1, 28, 10)
        assert np.bincount(data.val.labels).tolist() == [1] * 10

    def test_the_seed_moves_the_validation_split_alone(self, tmp_path: Path) -> None:
        write_fashion_mnist(tmp_path)
        a, b = (load_data(DataConfig(name="fashion_mnist", root=str(tmp_path), seed=seed)) for seed in (0, 1))
        assert numbers(a.val) != numbers(b.val)
        assert numbers(a.test) == numbers(b.test)

    def test_train_size_caps_and_leaves_the_validation_split(self, tmp_path: Path) -> None:
        write_fashion_mnist(tmp_path)
        config = DataConfig(name="fashion_mnist", root=str(tmp_path), val_size=10)
        whole, capped = load_data(config), load_data(config.model_copy(update={"train_size": 20}))
        assert numbers(capped.val) == numbers(whole.val)
        assert numbers(capped.train) < numbers(whole.train)
        assert np.bincount(capped.train.labels).tolist() == [2] * 10

    @pytest.mark.parametrize(
        ("sizes", "told"), [({"train_size": 55}, "train_size (55)"), ({"val_size": 60}, "val_size (60)")]
    )
    def test_more_than_there_is(self, tmp_path: Path, sizes: dict[str, int], told: str) -> None:
        write_fashion_mnist(tmp_path)
        with pytest.raises(DataError) as caught:
            load_data(DataConfig(name="fashion_mnist", root=str(tmp_path), **sizes))
        assert told in str(caught.value)

    def test_another_size(self, tmp_path: Path) -> None:
        write_fashion_mnist(tmp_path)
        data = load_data(DataConfig(name="fashion_mnist", root=str(tmp_path), image_size=32))
        assert data.image_size == 32
        assert data.train.images.shape == (54, 32, 32, 1)

    @pytest.mark.skipif(not ARCHIVE.exists(), reason=f"no {ARCHIVE.name} beside the repository")
    def test_the_real_files(self, tmp_path: Path) -> None:
        with tarfile.open(ARCHIVE) as archive:
            # The filter came with 3.11.4, and from 3.12 on its absence is warned of.
            archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
        for path in (tmp_path / "FashionMNIST" / "raw").glob("*.gz"):
            with gzip.open(path) as packed, path.with_suffix("").open("wb") as out:
                shutil.copyfileobj(packed, out)
        data = load_data(DataConfig(name="fashion_mnist", root=str(tmp_path)))
        assert (len(data.train), len(data.val), len(data.test)) == (54_000, 6_000, 10_000)
        assert np.bincount(data.val.labels).tolist() == [600] * 10
        assert data.mean[0] == pytest.approx(0.2860, abs=5e-4)
        assert data.std[0] == pytest.approx(0.3530, abs=5e-4)
        assert data.classes[9] == "Ankle boot"


@pytest.mark.parametrize("name", ["fashion_mnist", "cifar10", "cifar100"])
def test_missing_files_say_where_they_belong(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        load_data(DataConfig(name=name, root=str(tmp_path)))
    assert str(tmp_path) in str(caught.value)
    assert "data.root" in str(caught.value)
    assert "data.download=true" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    folder = root / "cifar-10-batches-py"
    folder.mkdir()

    def write(name: str, content: object) -> list[str]:
        data = pickle.dumps(content)
        (folder / name).write_bytes(data)
        return [name, hashlib.md5(data).hexdigest()]

    rng = np.random.default_rng(0)
    parts = {}
    for name, first in (("data_batch_1", 0), ("data_batch_2", 20), ("test_batch", 40)):
        images = rng.integers(256, size=(20, 3, 32, 32), dtype=np.uint8)
        images[:, 0, 0, 0] = np.arange(first, first + 20)
        parts[name] = write(name, {"data": images.reshape(20, -1), "labels": [i % 10 for i in range(20)]})
    meta = write("batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [parts["data_batch_1"], parts["data_batch_2"]])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [parts["test_batch"]])
    monkeypatch.setattr(datasets.CIFAR10, "meta", {"filename": meta[0], "key": "label_names", "md5": meta[1]})


def test_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_cifar10(tmp_path, monkeypatch)
    data = load_data(DataConfig(name="cifar10", root=str(tmp_path)))
    assert (data.classes, data.in_channels, data.image_size) == (tuple("abcdefghij"), 3, 32)
    assert numbers(data.train) | numbers(data.val) == set(range(40))
    assert not numbers(data.train) & numbers(data.val)
    assert numbers(data.test) == set(range(40, 60))


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
        assert training.run_epoch().val_loss > 0

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
