import math
from collections.abc import Callable
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from search_spaces import Architecture
from trainers import Dataset, Diverged, EpochResult, OutOfMemory, TrainerConfig, Training, fit
from trainers.datasets import Arrays

CONFIG = TrainerConfig(epochs=3, batch_size=32, warmup_epochs=1)


def comparable(history: tuple[EpochResult, ...]) -> list[EpochResult]:
    return [replace(result, seconds=0.0) for result in history]


def equal_weights(a: Training, b: Training) -> bool:
    """Of all networks, the averaged ones included."""
    assert a.networks.keys() == b.networks.keys()
    return all(
        torch.equal(own, other)
        for name in a.networks
        for own, other in zip(
            a.networks[name].state_dict().values(), b.networks[name].state_dict().values(), strict=True
        )
    )


def with_dropout(architecture: Architecture) -> nn.Module:
    classes = architecture.skeleton.num_classes
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(3 * 32 * 32, classes), nn.BatchNorm1d(classes))


def fails_with(error: Exception, at_step: int = 0) -> Callable[[Architecture], nn.Module]:
    steps = count()  # of all copies together

    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(3 * 32 * 32, 8)

        def forward(self, x: Tensor) -> Tensor:
            if next(steps) >= at_step:
                raise error
            return self.inner(x.flatten(1))

    return lambda _: Failing()


class TestRepeating:
    def test_the_same_seed_gives_the_same_bits_and_keeps_the_global_generators(
        self, small_network: Architecture, small_shapes: Dataset
    ) -> None:
        runs = []
        for disturbance in (1, 2):
            torch.manual_seed(disturbance)
            np.random.seed(disturbance)
            before = torch.get_rng_state()
            training = Training(small_network, small_shapes, replace_config(epochs=2), seed=5)
            training.run_epoch()
            training.run_epoch()
            assert torch.equal(torch.get_rng_state(), before)
            runs.append(training)
        assert comparable(runs[0].history) == comparable(runs[1].history)
        assert equal_weights(*runs)

    def test_another_seed_other_weights(self, small_network: Architecture, small_shapes: Dataset) -> None:
        a, b = (Training(small_network, small_shapes, CONFIG, seed=seed) for seed in (0, 1))
        assert not equal_weights(a, b)

    @pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw"}, {"ema_epochs": 0.0}, {"ema_epochs": 2.5}], ids=str)
    @pytest.mark.parametrize("stop", [1, 2])
    def test_a_restored_training_continues_as_if_never_interrupted(
        self,
        small_network: Architecture,
        small_shapes: Dataset,
        tmp_path: Path,
        changes: dict[str, object],
        stop: int,
    ) -> None:
        config = replace_config(lr=0.01, **changes)
        whole = Training(small_network, small_shapes, config, build=with_dropout)
        first = Training(small_network, small_shapes, config, build=with_dropout)
        for _ in range(3):
            whole.run_epoch()
        for _ in range(stop):
            first.run_epoch()
        first.save(tmp_path / "checkpoint.pt")
        torch.manual_seed(99)
        second = Training(small_network, small_shapes, config, build=with_dropout)
        second.restore(tmp_path / "checkpoint.pt")
        assert second.epoch == stop
        while second.epoch < 3:
            second.run_epoch()
        assert comparable(second.history) == comparable(whole.history)
        assert equal_weights(second, whole)

    def test_a_real_network_too(self, small_network: Architecture, small_shapes: Dataset, tmp_path: Path) -> None:
        whole = Training(small_network, small_shapes, CONFIG)
        list(fit(whole, tmp_path / "whole.pt"))
        part = Training(small_network, small_shapes, CONFIG)
        part.run_epoch()
        part.save(tmp_path / "part.pt")
        rest = Training(small_network, small_shapes, CONFIG)
        assert [result.epoch for result in fit(rest, tmp_path / "part.pt")] == [2, 3]
        assert comparable(rest.history) == comparable(whole.history)
        assert equal_weights(rest, whole)

    def test_epochs_see_different_orders(self, small_network: Architecture, small_shapes: Dataset) -> None:
        training = Training(small_network, small_shapes, CONFIG)
        first, second = ([labels for _, labels in training._batches.train(epoch, 0, True)] for epoch in (0, 1))
        assert not torch.equal(torch.cat(first), torch.cat(second))


def replace_config(**changes: object) -> TrainerConfig:
    return CONFIG.model_copy(update=changes)


class TestSchedule:
    def rates(self, small_network: Architecture, small_shapes: Dataset, epochs: int, warmup: float) -> list[float]:
        config = replace_config(epochs=epochs, warmup_epochs=warmup, lr=0.5)
        training = Training(small_network, small_shapes, config, build=with_dropout)
        return [training._lr(step) for step in range(epochs * training._batches.steps)]

    def test_rises_to_the_peak_then_falls_as_half_a_cosine(
        self, small_network: Architecture, small_shapes: Dataset
    ) -> None:
        rates = self.rates(small_network, small_shapes, epochs=5, warmup=1)  # 4 steps an epoch
        assert rates[:4] == pytest.approx([0.125, 0.25, 0.375, 0.5])
        assert rates[4] == 0.5
        assert rates[12] == pytest.approx(0.25)
        assert 0 < rates[-1] < 0.01
        assert all(a > b for a, b in pairwise(rates[4:]))

    def test_starts_at_the_peak_without_warm_up(self, small_network: Architecture, small_shapes: Dataset) -> None:
        assert self.rates(small_network, small_shapes, epochs=2, warmup=0)[0] == 0.5

    def test_the_result_names_the_last_steps_rate(self, small_network: Architecture, small_shapes: Dataset) -> None:
        training = Training(small_network, small_shapes, CONFIG, build=with_dropout)
        assert training.run_epoch().lr == pytest.approx(0.1)
        assert training._optimizer.param_groups[0]["lr"] == pytest.approx(0.1)

    def test_ends(self, small_network: Architecture, small_shapes: Dataset) -> None:
        training = Training(small_network, small_shapes, CONFIG, epochs=2, build=with_dropout)
        training.run_epoch()
        training.run_epoch()
        with pytest.raises(ValueError, match="all 2 epochs are trained"):
            training.run_epoch()


class TestFigures:
    def test_loss_and_top1_are_those_of_the_whole_split(
        self, small_network: Architecture, small_shapes: Dataset
    ) -> None:
        training = Training(small_network, small_shapes, CONFIG)
        training.run_epoch()
        split = small_shapes.val
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (small_shapes.mean, small_shapes.std))
        images = (torch.tensor(split.images).permute(0, 3, 1, 2) / 255 - mean) / std
        model = training.networks["averaged"].eval()
        with torch.no_grad():
            probabilities = model(images).double().softmax(1)
        labels = torch.from_numpy(split.labels)
        evaluation = training.evaluate("val")
        assert evaluation.images == 70
        assert evaluation.metrics["loss"] == pytest.approx(
            -probabilities[range(70), labels].log().mean().item(), rel=1e-4
        )
        assert evaluation.metrics["top1"] == pytest.approx((probabilities.argmax(1) == labels).double().mean().item())

    def test_evaluating_changes_nothing(self, small_network: Architecture, small_shapes: Dataset) -> None:
        a, b = (Training(small_network, small_shapes, CONFIG) for _ in range(2))
        a.evaluate("test")
        assert a.model.training
        a.run_epoch()
        b.run_epoch()
        assert equal_weights(a, b)

    def test_the_test_split_is_read_by_evaluate_alone(
        self, small_network: Architecture, small_shapes: Dataset, tmp_path: Path
    ) -> None:
        class Untouchable(Arrays):
            def __getattribute__(self, name: str) -> object:
                raise AssertionError(f"test split read: {name}")

        untouchable = Untouchable.__new__(Untouchable)

        training = Training(small_network, replace(small_shapes, test=untouchable), CONFIG, build=with_dropout)
        list(fit(training, tmp_path / "checkpoint.pt"))
        with pytest.raises(AssertionError, match="test split read"):
            training.evaluate("test")

    def test_it_learns(self, small_network: Architecture, small_shapes: Dataset) -> None:
        config = replace_config(augment=False, epochs=16, lr=0.02, optimizer="adamw")
        training = Training(small_network, small_shapes, config)
        for _ in range(16):
            last = training.run_epoch()
        assert last.train["loss"] < 0.6 * training.history[0].train["loss"]

    def test_progress_counts_the_steps(self, small_network: Architecture, small_shapes: Dataset) -> None:
        seen: list[tuple[int, int]] = []
        Training(small_network, small_shapes, CONFIG, build=with_dropout).run_epoch(lambda *at: seen.append(at))
        assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def test_read_only_arrays_serve(self, small_network: Architecture, small_shapes: Dataset) -> None:
        def frozen(split: Arrays) -> Arrays:
            images, labels = split.images.copy(), split.labels.copy()
            images.flags.writeable = labels.flags.writeable = False
            return Arrays(images, labels)

        shared = replace(
            small_shapes, **{name: frozen(getattr(small_shapes, name)) for name in ("train", "val", "test")}
        )
        a, b = (Training(small_network, data, CONFIG, build=with_dropout) for data in (shared, small_shapes))
        assert replace(a.run_epoch(), seconds=0) == replace(b.run_epoch(), seconds=0)
        assert a.evaluate("test") == b.evaluate("test")

    @pytest.mark.parametrize("change", [{"amp": True}, {"channels_last": False}, {"label_smoothing": 0.1}])
    def test_the_other_settings_train(
        self, small_network: Architecture, small_shapes: Dataset, change: dict[str, object]
    ) -> None:
        result = Training(small_network, small_shapes, replace_config(**change)).run_epoch()
        assert 0 < result.train["loss"] < 10


def test_decay_spares_biases_and_norms(small_network: Architecture, small_shapes: Dataset) -> None:
    training = Training(small_network, small_shapes, CONFIG)
    decayed, spared = training._optimizer.param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (5e-4, 0)
    names = {id(p): name for name, p in training.model.named_parameters()}
    assert {names[id(p)].rsplit(".")[-1] for p in decayed["params"]} == {"weight"}
    exempt = {id(p) for m in training.model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    exempt |= {key for key, name in names.items() if name.endswith("bias")}
    assert {id(p) for p in spared["params"]} == exempt
    assert len(decayed["params"]) + len(spared["params"]) == len(names)


class TestEnds:
    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_loss_that_is_not_finite_names_epoch_and_rate(
        self, small_network: Architecture, small_shapes: Dataset, value: object
    ) -> None:
        class Broken(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.scale = nn.Parameter(torch.ones(1, 8))
                self.steps = 0

            def forward(self, x: Tensor) -> Tensor:
                self.steps += self.training
                return x.mean((1, 2, 3))[:, None] * self.scale * (value if self.steps > 6 else 1.0)

        training = Training(small_network, small_shapes, CONFIG, build=lambda _: Broken())
        training.run_epoch()
        with pytest.raises(Diverged, match=r"in epoch 2 at learning rate 0\.0") as caught:
            training.run_epoch()
        assert caught.value.epoch == 2
        assert 0 < caught.value.lr < 0.1
        assert training.epoch == 1

    @pytest.mark.parametrize(
        "error",
        [
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
            ),
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            MemoryError(),
        ],
    )
    @pytest.mark.parametrize("at_step", [0, 4])  # in training, in evaluation
    def test_out_of_memory_is_recognised(
        self, small_network: Architecture, small_shapes: Dataset, error: Exception, at_step: int
    ) -> None:
        training = Training(small_network, small_shapes, CONFIG, build=fails_with(error, at_step))
        with pytest.raises(OutOfMemory) as caught:
            training.run_epoch()
        assert str(caught.value)
        assert caught.value.__context__ is None  # would hold the frames, and with them the activations

    def test_the_allocators_own_failure(self, small_network: Architecture, small_shapes: Dataset) -> None:
        def too_big(_: Architecture) -> nn.Module:
            return nn.Linear(1 << 30, 1 << 20)

        with pytest.raises(OutOfMemory, match="allocate"):
            Training(small_network, small_shapes, CONFIG, build=too_big)

    def test_other_errors_pass(self, small_network: Architecture, small_shapes: Dataset) -> None:
        training = Training(small_network, small_shapes, CONFIG, build=fails_with(RuntimeError("mat1 and mat2 shapes")))
        with pytest.raises(RuntimeError, match="mat1 and mat2"):
            training.run_epoch()

    @pytest.mark.parametrize(("name", "value"), [("classes", ("a", "b", "c")), ("image_size", 16), ("in_channels", 1)])
    def test_a_skeleton_that_does_not_fit_the_data(
        self, small_network: Architecture, small_shapes: Dataset, name: str, value: object
    ) -> None:
        key = "num_classes" if name == "classes" else name
        with pytest.raises(ValueError, match=f"skeleton.{key} is .*, and shapes has .*; set skeleton.{key}: "):
            Training(small_network, replace(small_shapes, **{name: value}), CONFIG)

    def test_every_difference_from_the_data_is_named(self, small_network: Architecture, small_shapes: Dataset) -> None:
        other = replace(small_shapes, image_size=16, in_channels=1)
        with pytest.raises(ValueError, match=r"set skeleton\.image_size: 16 and skeleton\.in_channels: 1$"):
            Training(small_network, other, CONFIG)
