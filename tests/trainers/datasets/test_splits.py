import numpy as np
import pytest

from trainers.datasets.splits import carve


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
