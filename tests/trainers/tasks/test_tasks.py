"""A custom data set and a custom task: one file and one row each, as in docs/extending.md. The task has no top-1."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nas.search import Metric
from search_spaces import Architecture
from trainers import DataConfig, Dataset, Share, TrainerConfig, Training, fit, load_data
from trainers.batches import Batch, Batches
from trainers.datasets import SOURCES, Arrays, Source
from trainers.distributed import total
from trainers.tasks import TASKS, Evaluation, Step, Task, TaskRow
from trainers.tasks.base import Run

# --- the file of the data set -----------------------------------------------------------------------------------------


def load(config: DataConfig) -> Dataset:
    """Flat grey pictures. The label is the brightness, 0 to 7."""
    rng = np.random.default_rng(config.seed)

    def draw(count: int) -> Arrays:
        labels = rng.integers(8, size=count)
        return Arrays(np.tile((labels * 30).astype(np.uint8)[:, None, None, None], (1, 32, 32, 3)), labels)

    train, val, test = draw(96), draw(40), draw(40)
    return Dataset("greys", train, val, test, tuple("01234567"), 32, 3, (0.5,) * 3, (0.3,) * 3, True, 0)


# --- the file of the task ---------------------------------------------------------------------------------------------


def check(architecture: Architecture, dataset: Dataset) -> None:
    if architecture.skeleton.image_size != dataset.image_size:
        raise ValueError(f"skeleton.image_size is not {dataset.image_size}")


def build(architecture: Architecture) -> nn.Module:
    del architecture
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1))


def step(network: Run, batch: Batch, config: TrainerConfig) -> Step:
    del config
    images, labels = batch
    error = network(images)[:, 0] - labels
    return Step(error.square().mean(), {}, len(labels))


def evaluate(network: Run, batches: Iterator[Batch], device: torch.device, share: Share) -> Evaluation:
    tally = torch.zeros(3, dtype=torch.float64, device=device)
    for images, labels in batches:
        error = network(images)[:, 0] - labels
        tally += torch.stack([error.square().sum(), (error.abs() < 1).sum(), torch.tensor(float(len(labels)))])
    squares, near, count = total(tally, share).tolist()
    return Evaluation({"loss": squares / count, "near": near / count}, int(count))


BRIGHTNESS = Task(check=check, build=build, feed=Batches, step=step, evaluate=evaluate)


# --- the rows ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def greys(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    files = SimpleNamespace(load=load, BRIGHTNESS=BRIGHTNESS)
    monkeypatch.setitem(sys.modules, "files_of_the_test", files)
    monkeypatch.setitem(SOURCES, "greys", Source("files_of_the_test:load", task="brightness"))
    row = TaskRow("files_of_the_test:BRIGHTNESS", (Metric(name="near", label="near"),))
    monkeypatch.setitem(TASKS, "brightness", row)
    return load_data(DataConfig(name="greys"))


CONFIG = TrainerConfig(epochs=3, batch_size=16, warmup_epochs=0, lr=0.02)


def test_a_custom_task_is_trained_and_continues(greys: Dataset, small_network: Architecture, tmp_path: Path) -> None:
    whole = Training(small_network, greys, CONFIG)
    results = list(fit(whole, tmp_path / "whole.pt"))
    assert whole.task is BRIGHTNESS
    assert [set(result.train) for result in results] == [{"loss"}] * 3
    assert [set(result.val) for result in results] == [{"loss", "near"}] * 3
    assert results[-1].val["loss"] < results[0].val["loss"]
    part = Training(small_network, greys, CONFIG)
    part.run_epoch()
    part.save(tmp_path / "part.pt")
    rest = Training(small_network, greys, CONFIG)
    list(fit(rest, tmp_path / "part.pt"))
    assert [replace(r, seconds=0) for r in rest.history] == [replace(r, seconds=0) for r in whole.history]
    assert whole.evaluate("test").images == 40


def test_the_task_says_why_data_does_not_fit(greys: Dataset, small_network: Architecture) -> None:
    with pytest.raises(ValueError, match=r"skeleton\.image_size is not 16"):
        Training(small_network, replace(greys, image_size=16), CONFIG)


def test_every_data_set_has_a_task_and_every_task_its_file() -> None:
    assert {source.task for source in SOURCES.values()} <= TASKS.keys()
    for row in TASKS.values():
        assert isinstance(row.load(), Task)
        assert row.main == row.metrics[0]


def test_a_name_without_a_row_is_refused() -> None:
    with pytest.raises(ValidationError, match="unknown data set 'greys'"):
        DataConfig(name="greys")
