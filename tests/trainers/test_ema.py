import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nas.costs.allocator import allocator_peak
from search_spaces import Architecture
from trainers import ALONE, Dataset, TrainerConfig, Training, checkpoint, ema

CONFIG = TrainerConfig(epochs=3, batch_size=32, warmup_epochs=1, ema_epochs=0.5)
OFF = CONFIG.model_copy(update={"ema_epochs": 0.0, "start": "papers"})


class Small(nn.Module):
    """A norm between two layers, dropout before it, and a buffer that is no statistic."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3 * 32 * 32, 4), nn.Linear(4, classes)
        self.norm, self.dropout = nn.BatchNorm1d(4), nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.modes: list[tuple[bool, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        self.modes.append((self.training, self.norm.training, self.dropout.training))
        out: Tensor = self.last(self.norm(self.dropout(self.first(x.flatten(1)))))
        return out


def small(architecture: Architecture) -> nn.Module:
    return Small(architecture.skeleton.num_classes)


@pytest.fixture
def training(small_network: Architecture, small_shapes: Dataset) -> Training:
    return Training(small_network, small_shapes, CONFIG, build=small)


def averaged(training: Training) -> Small:
    assert isinstance(training.averaged, Small)
    return training.averaged


class TestDecay:
    def test_the_first_steps_are_forgotten(self) -> None:
        shares = [1.0]  # of each step's weights, in the average
        for step in range(200):
            factor = ema.decay(step, 1000.0)
            shares = [factor * share for share in shares] + [1 - factor]
        assert sum(shares[:100]) < 0.01
        assert sum(shares) == pytest.approx(1)

    def test_then_a_share_falls_by_e_in_the_time_constant(self) -> None:
        factors = [ema.decay(step, 50.0) for step in range(2000)]
        assert all(a <= b for a, b in pairwise(factors))
        assert math.prod(factors[-50:]) == pytest.approx(1 / math.e)


@pytest.mark.parametrize(("steps", "batches"), [(1, 1), (9, 1), (46, 4), (125, 12), (5000, 50)])
def test_statistics_take_a_tenth_of_the_images_or_one_batch(steps: int, batches: int) -> None:
    images = 64 * steps + 63
    chosen = ema.sample(images, steps, 64)
    assert len(chosen) == batches * 64
    assert (chosen[0], chosen[-1]) == (0, images - 1)
    gaps = np.diff(chosen)
    assert gaps.min() >= 1
    assert gaps.max() - gaps.min() <= 1


class TestTraining:
    def test_the_average_is_that_of_the_weights_after_each_step(self, training: Training) -> None:
        def weights(network: nn.Module) -> Tensor:
            return torch.cat([parameter.detach().double().flatten() for parameter in network.parameters()])

        seen = [weights(training.model)]
        for _ in range(3):
            training.run_epoch(lambda *_: seen.append(weights(training.model)))
        expected, *later = seen
        for step, found in enumerate(later):
            factor = ema.decay(step, 0.5 * 4)
            expected = factor * expected + (1 - factor) * found
        assert len(later) == 12
        assert torch.allclose(weights(averaged(training)), expected, atol=1e-6)
        assert not torch.allclose(weights(training.model), expected, atol=1e-6)

    def test_what_is_trained_is_the_same_without_it(
        self, training: Training, small_network: Architecture, small_shapes: Dataset
    ) -> None:
        without = Training(small_network, small_shapes, OFF, build=small)
        assert without.averaged is None
        for _ in range(2):
            with_it, alone = training.run_epoch(), without.run_epoch()
            assert with_it.train == alone.train
            assert with_it.val != alone.val
        ours, theirs = training.model.state_dict(), without.model.state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        assert training.evaluate("val", training.model) == without.evaluate("val")

    def test_the_average_is_what_an_epoch_evaluates(self, training: Training) -> None:
        result = training.run_epoch()
        assert result.val == training.evaluate("val").metrics
        assert result.val == training.evaluate("val", training.averaged).metrics
        assert result.val != training.evaluate("val", training.model).metrics
        assert list(training.networks) == ["averaged", "model"]

    def test_statistics_are_those_of_the_averaged_weights(self, training: Training, small_shapes: Dataset) -> None:
        training.run_epoch()
        network = averaged(training)
        # Four steps an epoch: one batch. Dropout, were it on, would double half of the activations.
        images, _ = next(training._batches.evaluate(small_shapes.train.take(ema.sample(150, 4, 32))))
        inside = network.first(images.flatten(1))
        assert torch.allclose(network.norm.running_mean, inside.mean(0), atol=1e-5)
        assert torch.allclose(network.norm.running_var, inside.var(0), rtol=1e-4)
        assert (False, True, False) in network.modes
        assert set(network.modes) == {(False, True, False), (False, False, False)}
        assert network.norm.momentum == 0.1

    def test_other_buffers_are_the_trained_networks(self, training: Training) -> None:
        training.run_epoch()
        assert averaged(training).calls == training.model.calls == 4

    def test_statistics_are_means_over_batches(self, small_network: Architecture) -> None:
        network = small(small_network)
        average = ema.begin(network)
        images = torch.randn(3, 16, 3 * 32 * 32)
        ema.renew(average, network, lambda: [average(batch) for batch in images], ALONE)
        inside = average.first(images)
        assert torch.allclose(average.norm.running_mean, inside.mean((0, 1)), atol=1e-5)
        assert torch.allclose(average.norm.running_var, inside.var(1).mean(0), rtol=1e-4)

    def test_a_failed_pass_leaves_no_norm_in_training_mode(self, small_network: Architecture) -> None:
        network = small(small_network)
        average = ema.begin(network)

        def run() -> None:
            raise RuntimeError("no memory")

        with pytest.raises(RuntimeError, match="no memory"):
            ema.renew(average, network, run, ALONE)
        assert not any(module.training for module in average.modules())
        assert average.norm.momentum == 0.1

    def test_no_gradients_are_kept(self, training: Training) -> None:
        training.run_epoch()
        assert all(parameter.grad is None for parameter in averaged(training).parameters())
        assert not any(parameter.requires_grad for parameter in averaged(training).parameters())

    def test_a_compiled_network_is_the_same(
        self, training: Training, small_network: Architecture, small_shapes: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        compiled: list[nn.Module] = []

        def compile_in_place(network: nn.Module) -> None:
            compiled.append(network)
            network._compiled_call_impl = network._call_impl

        monkeypatch.setattr(nn.Module, "compile", compile_in_place)
        other = Training(small_network, small_shapes, CONFIG.model_copy(update={"compile": True}), build=small)
        assert compiled == list(other.networks.values())
        assert replace(other.run_epoch(), seconds=0) == replace(training.run_epoch(), seconds=0)

    def test_its_memory_is_a_copy_of_parameters_and_buffers(
        self, small_network: Architecture, small_shapes: Dataset
    ) -> None:
        def peak(config: TrainerConfig) -> int:
            return allocator_peak(lambda: Training(small_network, small_shapes, config).run_epoch())

        network = Training(small_network, small_shapes, OFF).model
        copy = sum(tensor.nbytes for tensor in (*network.parameters(), *network.buffers()))
        assert peak(CONFIG) - peak(OFF) == copy


class TestCheckpoint:
    def test_holds_both(self, training: Training, tmp_path: Path) -> None:
        training.run_epoch()
        training.save(tmp_path / "checkpoint.pt")
        state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
        for name, network in training.networks.items():
            assert all(torch.equal(state[name][key], own) for key, own in network.state_dict().items())

    def test_of_the_format_before_goes_on_without_an_average(
        self, small_network: Architecture, small_shapes: Dataset, tmp_path: Path
    ) -> None:
        path = tmp_path / "checkpoint.pt"
        whole = Training(small_network, small_shapes, OFF, build=small)
        whole.run_epoch()
        whole.save(path)
        state = torch.load(path, weights_only=True)
        identity = state.pop("training")
        for key in ("ema_epochs", "start"):
            del identity[key]
        checkpoint.save(path, {**identity, "format": 2}, state)
        rest = Training(small_network, small_shapes, OFF, build=small)
        rest.restore(path)
        assert replace(rest.run_epoch(), seconds=0) == replace(whole.run_epoch(), seconds=0)
        with pytest.raises(checkpoint.CheckpointError, match=r"ema_epochs 0\.0, but this one has 0\.5"):
            Training(small_network, small_shapes, CONFIG, build=small).restore(path)
