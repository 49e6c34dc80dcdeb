"""Full training of one architecture, on a handful of pictures."""

import json
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import nn

from launch.training import train_in_full
from nas import build_model
from search_spaces import Architecture, load_space
from trainers import Evaluation, Training

SETTINGS = ["data.train_size=64", "data.val_size=32", "trainer.epochs=2", "trainer.batch_size=32"]


@pytest.fixture
def console() -> Console:
    return Console(record=True, width=200)


@pytest.fixture
def plain() -> Architecture:
    return load_space("shapes").plain()


@pytest.mark.parametrize(("averaged", "trained", "better"), [(0.8, 0.7, "averaged"), (0.6, 0.7, "model")])
def test_the_better_weights_are_tested_and_named(
    plain: Architecture,
    tmp_path: Path,
    console: Console,
    monkeypatch: pytest.MonkeyPatch,
    averaged: float,
    trained: float,
    better: str,
) -> None:
    tested: list[nn.Module | None] = []

    def evaluate(training: Training, split: str, network: nn.Module | None = None) -> Evaluation:
        if split == "test":
            tested.append(network)
        of_average = network is not training.model
        return Evaluation({"loss": 1.0, "top1": averaged if of_average else trained}, 32)

    monkeypatch.setattr(Training, "evaluate", evaluate)
    figures = train_in_full(plain, tmp_path, console, "shapes", None, SETTINGS, "cpu")
    (network,) = tested
    assert network is not None
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(torch.equal(state[better][key], own) for key, own in network.state_dict().items())
    assert figures == json.loads((tmp_path / "figures.json").read_text())
    assert figures["weights"] == better
    assert figures["val_top1"] == figures["test_top1"] == max(averaged, trained)
    assert {name: found["top1"] for name, found in figures["val_of_weights"].items()} == {
        "averaged": averaged,
        "model": trained,
    }
    line = f"averaged top-1 {averaged:.2%}, model top-1 {trained:.2%}; tested: {better}".replace("%", " %")
    assert line in console.export_text()


def test_without_an_average_there_is_nothing_to_choose(plain: Architecture, tmp_path: Path, console: Console) -> None:
    figures = train_in_full(plain, tmp_path, console, "shapes", None, [*SETTINGS, "trainer.ema_epochs=0"], "cpu")
    assert figures["weights"] == "model"
    assert list(figures["val_of_weights"]) == ["model"]
    assert "weights by validation" not in console.export_text()


def test_a_training_from_weights_says_what_was_loaded(plain: Architecture, tmp_path: Path, console: Console) -> None:
    train_in_full(plain, tmp_path / "first", console, "shapes", None, SETTINGS, "cpu")
    checkpoint = tmp_path / "first" / "checkpoint.pt"
    train_in_full(plain, tmp_path / "second", console, "shapes", None, SETTINGS, "cpu", str(checkpoint))
    tensors = len(build_model(plain).state_dict())
    assert f"{checkpoint}: {tensors} tensors loaded\n" in console.export_text()


def test_again_gives_the_same_figures(plain: Architecture, tmp_path: Path, console: Console) -> None:
    first, second = (train_in_full(plain, tmp_path, console, "shapes", None, SETTINGS, "cpu") for _ in range(2))
    assert first == second
    assert set(first["val_of_weights"]) == {"averaged", "model"}
