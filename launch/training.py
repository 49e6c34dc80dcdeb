"""Full training of one architecture: `nas train`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from launch.errors import Failure, UserError
from launch.reports.tables import metric_amount
from launch.rundir.config import with_root
from launch.rundir.run import open_run
from nas.search import Metric
from nas.weights import WeightsError
from search_spaces import Architecture
from search_spaces.yamlfile import read_yaml, validate, write_yaml
from trainers import (
    Diverged,
    EpochResult,
    Evaluation,
    OutOfMemory,
    Recipe,
    Training,
    fit,
    load_data,
    read_weights,
    recipe_document,
)
from trainers.tasks import TASKS


def train_in_full(
    architecture: Architecture,
    folder: Path,
    console: Console,
    recipe: str | None,
    run: Path | None,
    overrides: list[str],
    device: str,
    start: str | None = None,
) -> dict[str, Any]:
    """Trains to the end of the schedule and evaluates on test data, once.

    The test data sees one network: the averaged weights, or the trained ones where they are better on validation data.
    `figures.json` names them as `checkpoint.pt` does (``weights``).

    Args:
        architecture: What to train.
        folder: Holds `checkpoint.pt` (another call continues from it), `architecture.yaml` and `figures.json`.
        console: Shows the progress.
        recipe: Name or file of a recipe: data and trainer. None takes those of `run`.
        run: A run whose data and trainer are used.
        overrides: `trainer.epochs=90` and the like.
        device: Where to train.
        start: Trained weights to start from, as `trainers.read_weights` takes them. Prints what became of them.

    Raises:
        WeightsError: `start` cannot be read, or does not fit the network.
        UserError: neither recipe nor run is given, or both; or the network does not fit the data.
        Failure: the training diverged or ran out of memory.
        FileError: the recipe, with `overrides`, is wrong.
    """
    chosen = _recipe(recipe, run, overrides)
    data = load_data(chosen.data)
    metrics = TASKS[data.task].metrics
    main = metrics[0]
    begun = None if start is None else read_weights(start)
    try:
        training = Training(architecture, data, chosen.trainer, device=device, weights=begun)
    except WeightsError:
        raise
    except ValueError as error:
        raise UserError(f"{error}") from error
    for line in () if training.loaded is None else training.loaded.lines():
        console.print(line)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "architecture.yaml").write_text(architecture.dump())
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
    )
    try:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            epochs = bar.add_task("epochs", total=training.epochs)
            steps = bar.add_task("steps", total=None)

            def on_step(done: int, total: int) -> None:
                bar.update(steps, completed=done, total=total)

            for result in fit(training, folder / "checkpoint.pt", on_step):
                bar.update(epochs, completed=result.epoch)
                console.print(_line(result, training.epochs, metrics))
        weights, by_weights = _best(training, main)
        test = training.evaluate("test", training.networks[weights])
    except (Diverged, OutOfMemory) as error:
        raise Failure(f"training stopped: {error}") from error
    val = by_weights[weights].metrics
    figures = {
        "fingerprint": architecture.fingerprint,
        "epochs": training.epoch,
        "weights": weights,
        "val_of_weights": {name: found.metrics for name, found in by_weights.items()},
        **{f"val_{name}": value for name, value in val.items() if name != "loss"},
        **{f"test_{name}": value for name, value in test.metrics.items()},
        "test_images": test.images,
    }
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    if len(by_weights) > 1:
        compared = ", ".join(f"{name} {_figure(main.name, of.metrics, metrics)}" for name, of in by_weights.items())
        console.print(f"weights by validation: {compared}; tested: {weights}, as checkpoint.pt names them")
    console.print(
        f"test {_figure(main.name, test.metrics, metrics)} on {test.images:,} images "
        f"(validation {_figure(main.name, val, metrics)})"
    )
    return figures


def _best(training: Training, metric: Metric) -> tuple[str, dict[str, Evaluation]]:
    """The name of the weights that are best on validation data, and the evaluation of each; the first if equal."""
    found = {name: training.evaluate("val", network) for name, network in training.networks.items()}
    return max(found, key=lambda name: metric.objective.merit(found[name].metrics[metric.name])), found


def _recipe(recipe: str | None, run: Path | None, overrides: list[str]) -> Recipe:
    if (recipe is None) == (run is None):
        raise UserError("say what to train on: --recipe NAME, or --run RUN for the data and trainer of a run")
    if run is not None:
        config = open_run(run)[0].config
        text = write_yaml(
            {"data": config.data.model_dump(mode="json"), "trainer": config.trainer.model_dump(mode="json")}
        )
        document = read_yaml(text, str(run))
    else:
        assert recipe is not None
        document = recipe_document(recipe)
    document = document.with_overrides(overrides)
    chosen = validate(document, Recipe)
    return chosen.model_copy(update={"data": with_root(chosen.data, document)})


def _line(result: EpochResult, epochs: int, known: Sequence[Metric]) -> str:
    figures = [
        f"{split} {_figure(name, metrics, known)}"
        for split, metrics in (("train", result.train), ("val", result.val))
        for name in metrics
        if split == "val" or name == "loss"
    ]
    return f"epoch {result.epoch}/{epochs}  {'  '.join(figures)}  lr {result.lr:.4f}  {result.seconds:.1f} s"


def _figure(name: str, metrics: Mapping[str, float], known: Sequence[Metric]) -> str:
    """A metric in words: one of the task's as its row says, another one, such as the loss, as a plain number."""
    for metric in known:
        if metric.name == name:
            return f"{metric.label} {metric_amount(metrics[name], metric, more=1)}"
    return f"{name} {metrics[name]:.3f}"
