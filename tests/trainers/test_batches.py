from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers import Dataset, Share
from trainers.batches import Batches, crop_and_flip, random_box
from trainers.datasets import Arrays

CPU = torch.device("cpu")


def numbered(count: int, side: int = 8, image_size: int = 8, padding: int = 2, flip: bool = True) -> Dataset:
    """All pixels of image i are i, except in its first column, where they are 200 + row; its label is i."""
    images = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, side, side, 1)).copy()
    images[:, :, 0, 0] = 200 + np.arange(side)
    split = Arrays(images, np.arange(count))
    return Dataset("numbered", split, split, split, ("a",) * count, image_size, 1, (0.0,), (1.0,), flip, padding)


def batches(dataset: Dataset, batch_size: int = 4, memory_format: torch.memory_format = torch.channels_last) -> Batches:
    return Batches(dataset, batch_size, CPU, memory_format)


def test_an_epoch_holds_every_image_at_most_once_in_full_batches() -> None:
    seen = [labels for _, labels in batches(numbered(10)).train(0, seed=0, augment=False)]
    assert [len(labels) for labels in seen] == [4, 4]
    assert len(set(torch.cat(seen).tolist())) == 8


def test_fewer_images_than_a_batch_make_one_batch() -> None:
    feed = batches(numbered(3))
    assert feed.steps == 1
    assert [len(labels) for _, labels in feed.train(0, seed=0, augment=True)] == [3]


def test_evaluation_sees_every_image_once_in_order() -> None:
    dataset = numbered(10)
    seen = list(batches(dataset).evaluate(dataset.val))
    assert [len(images) for images, _ in seen] == [4, 4, 2]
    assert torch.cat([labels for _, labels in seen]).tolist() == list(range(10))
    assert torch.allclose(torch.cat([images[:, 0, 0, -1] for images, _ in seen]) * 255, torch.arange(10.0))


def test_labels_stay_with_their_images() -> None:
    for images, labels in batches(numbered(12, padding=0)).train(3, seed=1, augment=True):
        assert torch.allclose(images[:, 0, 4, 4] * 255, labels.float())


@pytest.mark.parametrize("of", [2, 3])
@pytest.mark.parametrize("augment", [False, True])
def test_shares_put_together_are_the_batches(augment: bool, of: int) -> None:
    dataset, split = numbered(11), numbered(11).val
    whole = batches(dataset)
    parts = [Batches(dataset, 4, CPU, torch.channels_last, Share(rank, of)) for rank in range(of)]
    for together, *shares in zip(
        whole.train(1, 0, augment), *(part.train(1, 0, augment) for part in parts), strict=True
    ):
        for rank, share in enumerate(shares):
            assert torch.equal(share[0], together[0][rank::of])
            assert torch.equal(share[1], together[1][rank::of])
    seen = [labels for part in parts for _, labels in part.evaluate(split)]
    assert sorted(torch.cat(seen).tolist()) == list(range(11))
    assert all(map(len, seen))  # no batch is empty


@pytest.mark.parametrize("augment", [True, False])
def test_epoch_and_seed_decide_all(augment: bool) -> None:
    def epoch(number: int, seed: int, batch_size: int = 4) -> Tensor:
        feed = batches(numbered(12), batch_size)
        return torch.cat([images for images, _ in feed.train(number, seed, augment)])

    first = epoch(0, 0)
    assert torch.equal(first, epoch(0, 0))
    assert torch.equal(first, epoch(0, 0, batch_size=6))
    assert not torch.equal(first, epoch(1, 0))
    assert not torch.equal(first, epoch(0, 1))


def test_normalisation_and_memory_format() -> None:
    rng = np.random.default_rng(0)
    split = Arrays(rng.integers(256, size=(6, 5, 5, 3), dtype=np.uint8), np.arange(6))
    mean, std = (0.1, 0.5, 0.7), (0.3, 0.2, 0.1)
    dataset = Dataset("x", split, split, split, tuple("abcdef"), 5, 3, mean, std, False, 0)
    expected = ((split.images / 255 - mean) / std).transpose(0, 3, 1, 2)
    for memory_format in (torch.channels_last, torch.contiguous_format):
        ((images, _),) = batches(dataset, 6, memory_format).evaluate(split)
        assert images.is_contiguous(memory_format=memory_format)
        np.testing.assert_allclose(images.numpy(), expected, atol=1e-5)


class TestCropAndFlip:
    images = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).view(2, 4, 4, 3) + 1

    def windows(self, corners: list[list[int]], flips: list[bool], size: int, padding: int) -> Tensor:
        return crop_and_flip(self.images, torch.tensor(corners), torch.tensor(flips), size, padding)

    def test_the_middle_unflipped_is_the_image(self) -> None:
        assert torch.equal(self.windows([[2, 2], [2, 2]], [False, False], 4, 2), self.images)

    def test_a_flip_mirrors_left_and_right(self) -> None:
        got = self.windows([[2, 2], [2, 2]], [True, False], 4, 2)
        assert torch.equal(got[0], self.images[0].flip(1))
        assert torch.equal(got[1], self.images[1])

    def test_beyond_the_edge_is_black(self) -> None:
        got = self.windows([[0, 4], [2, 1]], [False, False], 4, 2)
        assert torch.equal(got[0, 2:], self.images[0, :2])
        assert not got[0, :2].any()
        assert torch.equal(got[1, :2, 1:], self.images[1, 2:, :3])
        assert not got[1, 2:].any()
        assert not got[1, :, 0].any()

    def test_a_smaller_window_without_padding(self) -> None:
        got = self.windows([[1, 0], [0, 2]], [False, True], 2, 0)
        assert torch.equal(got[0], self.images[0, 1:3, 0:2])
        assert torch.equal(got[1], self.images[1, 0:2, 2:4].flip(1))


class TestAugmentation:
    def first_columns(self, dataset: Dataset) -> Tensor:
        """The left columns [images, size] of the training images in one epoch."""
        return (
            torch.cat([images[:, 0, :, 0] for images, _ in batches(dataset, 50).train(0, seed=0, augment=True)]) * 255
        )

    def test_flips_half_of_the_images_and_only_where_that_is_true_to_the_label(self) -> None:
        mirrored = [self.first_columns(numbered(200, padding=0, flip=flip))[:, 0] < 199.5 for flip in (True, False)]
        assert 70 < mirrored[0].sum() < 130
        assert mirrored[1].sum() == 0

    def test_every_shift_within_the_padding_comes_up_evenly(self) -> None:
        top = self.first_columns(numbered(200, padding=0, flip=False, side=12))
        shifts = torch.cat(
            [images[:, 0, 0] for images, _ in batches(numbered(200, padding=2, flip=False), 50).train(0, 0, True)]
        )
        # With 2 pixels of padding the window starts at row 0 to 4; at row 0 and 1 its first row is black.
        black = (shifts.amax(1) == 0).double().mean().item()
        assert 0.3 < black < 0.5
        # 12 pixels kept for windows of 8: first rows 0 to 4, first columns 0 to 4; a fifth shows the edge.
        edge = top[top[:, 0] > 199.5][:, 0] - 200
        assert 20 < len(edge) < 60
        assert set(edge.round().tolist()) == {0, 1, 2, 3, 4}

    def test_evaluation_takes_the_middle(self) -> None:
        dataset = numbered(4, side=12)
        images, _ = next(iter(batches(dataset).evaluate(dataset.val)))
        assert images.shape == (4, 1, 8, 8)
        assert torch.allclose(images[:, 0, :, 0] * 255, torch.arange(4.0)[:, None].expand(4, 8))

    def test_off_means_untouched(self) -> None:
        dataset = numbered(8)
        for images, labels in batches(dataset).train(0, seed=0, augment=False):
            expected = torch.from_numpy(dataset.train.images[labels.numpy()]).permute(0, 3, 1, 2) / 255
            assert torch.allclose(images, expected)


def test_random_boxes_lie_inside_and_keep_their_share_and_shape() -> None:
    rng = np.random.default_rng(0)
    for size in ((640, 480), (100, 400), (8, 8)):
        for _ in range(300):
            left, upper, right, lower = random_box(size, rng)
            width, height = right - left, lower - upper
            assert 0 <= left < right <= size[0] + 1e-9
            assert 0 <= upper < lower <= size[1] + 1e-9
            assert width * height <= size[0] * size[1] * (1 + 1e-9)
            if width < size[0] and height < size[1]:
                assert 3 / 4 - 1e-9 <= width / height <= 4 / 3 + 1e-9
                assert width * height >= 0.08 * size[0] * size[1] - 1e-6


def test_a_dataset_is_one_value_with_its_arrays_out_of_band() -> None:
    import pickle

    dataset = numbered(1000)
    buffers: list[pickle.PickleBuffer] = []
    header = pickle.dumps(dataset, protocol=5, buffer_callback=buffers.append)
    assert len(header) < 50_000  # the class names; the images travel beside it
    copy = pickle.loads(header, buffers=[bytes(buffer) for buffer in buffers])
    assert not copy.train.images.flags.writeable
    feed = batches(replace(copy, classes=("a",)))
    assert sum(1 for _ in feed.train(0, 0, True)) == 250
    assert sum(1 for _ in feed.evaluate(copy.val)) == 250
