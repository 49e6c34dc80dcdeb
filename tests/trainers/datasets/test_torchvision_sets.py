import hashlib
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from trainers import DataConfig, DataError, load_data
from trainers.datasets import Arrays


def write_fashion_mnist(root: Path, train: int = 60, test: int = 20) -> None:
    """The first two pixels of image i store the number i."""
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
        assert data.train.images.shape == (50, 32, 32, 1)

    def test_a_data_set_describes_its_pictures(self, tmp_path: Path) -> None:
        write_fashion_mnist(tmp_path)
        data = load_data(DataConfig(name="fashion_mnist", root=str(tmp_path)))
        assert isinstance(data.train, Arrays)
        pixels = data.train.images / 255
        assert data.mean == pytest.approx((pixels.mean(),))
        assert data.std == pytest.approx((pixels.std(),))
        assert data.classes[9] == "Ankle boot"
        assert (data.flip, data.padding) == (True, 3)


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
