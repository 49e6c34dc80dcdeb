"""A custom task, from its two rows to the report: no file of the package knows its metrics."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from rich.console import Console
from torch import Tensor, nn

from launch import cli
from launch.reports import report
from launch.reports.facts import facts_of
from launch.rundir.beginning import begin
from launch.rundir.config import RunConfig
from launch.rundir.run import open_run
from launch.session import load_fitting
from nas.analysis import select
from nas.costs import Conditions, CostModel
from nas.search import Engine, EpochRecord, Journal, Metric, Outcome
from search_spaces import Architecture, SearchSpace, load_space
from trainers import DataConfig, Dataset, Share, TrainerConfig, Training
from trainers.batches import Batch, Batches
from trainers.datasets import SOURCES, Arrays, Source
from trainers.distributed import total
from trainers.tasks import TASKS, Evaluation, Step, Task, TaskRow
from trainers.tasks.base import Run as Network

# --- the file of the data set -----------------------------------------------------------------------------------------


def load(config: DataConfig) -> Dataset:
    """Flat grey pictures. The label is the brightness, 1 to 8."""
    rng = np.random.default_rng(config.seed)

    def draw(count: int) -> Arrays:
        labels = rng.integers(1, 9, size=count)
        return Arrays(np.tile((labels * 30).astype(np.uint8)[:, None, None, None], (1, 32, 32, 3)), labels)

    return Dataset("greys", draw(32), draw(16), draw(16), tuple("012345678"), 32, 3, (0.5,) * 3, (0.3,) * 3, True, 0)


# --- the file of the task ---------------------------------------------------------------------------------------------


def check(architecture: Architecture, dataset: Dataset) -> None:
    if architecture.skeleton.image_size != dataset.image_size:
        raise ValueError(f"skeleton.image_size is not {dataset.image_size}")


def build(architecture: Architecture) -> nn.Module:
    """A network that is wider if more places have attention."""
    width = 2 + sum(len(slots) for slots in architecture.placements.values())
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))


def brightness(network: Network, images: Tensor) -> Tensor:
    found: Tensor = 4 + network(images)[:, 0]
    return found


def step(network: Network, batch: Batch, config: TrainerConfig) -> Step:
    del config
    images, labels = batch
    return Step((brightness(network, images) - labels).square().mean(), {}, len(labels))


def evaluate(network: Network, batches: Iterator[Batch], device: torch.device, share: Share) -> Evaluation:
    tally = torch.zeros(4, dtype=torch.float64, device=device)
    for images, labels in batches:
        found = brightness(network, images).clamp(0, 8)
        off = (found - labels).abs()
        union = torch.maximum(found, labels)
        tally += torch.stack([off.square().sum(), (1 - off / union).sum(), (off / 8).sum(), torch.tensor(len(labels))])
    squares, overlap, off, count = total(tally, share).tolist()
    return Evaluation({"loss": squares / count, "mean_iou": overlap / count, "error": off / count}, int(count))


BRIGHTNESS = Task(check=check, build=build, feed=Batches, step=step, evaluate=evaluate)

# --- the rows ---------------------------------------------------------------------------------------------------------

METRICS = (Metric(name="mean_iou", label="mean IoU"), Metric(name="error", label="error", direction="minimize"))


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "files_of_the_test", SimpleNamespace(load=load, BRIGHTNESS=BRIGHTNESS))
    monkeypatch.setitem(SOURCES, "greys", Source("files_of_the_test:load", task="brightness"))
    monkeypatch.setitem(TASKS, "brightness", TaskRow("files_of_the_test:BRIGHTNESS", METRICS))


# --- nothing below is a change of the package -------------------------------------------------------------------------


def config_of(*objectives: str) -> RunConfig:
    settings = {
        "data": {"name": "greys"},
        "trainer": {"epochs": 2, "batch_size": 16, "warmup_epochs": 0, "lr": 0.05},
        "search": {"trials": 8, "eta": 2, "decide": 0.5},
        "objectives": objectives,
    }
    return RunConfig.model_validate_json(json.dumps(settings))


def searched(folder: Path, config: RunConfig, space: SearchSpace) -> None:
    """A complete search in this process."""
    dataset, costs = load_fitting(config, space), CostModel(Conditions())
    run = begin(folder, config, space)
    with Journal.open(folder) as journal:
        engine = Engine(
            journal, space, config.search, objectives=run.objectives, epochs=config.trainer.epochs, costs=costs
        )
        while not engine.done:
            if (job := engine.next()) is None:
                continue
            training = Training(job.architecture, dataset, config.trainer, epochs=job.epochs, seed=job.seed)
            while training.epoch < job.stop_epoch:
                result = training.run_epoch()
                if result.epoch > job.start_epoch:
                    engine.report(job, EpochRecord(result.epoch, dict(result.val), result.lr, result.seconds))
            engine.finish(job, Outcome("reached"))


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_it_is_searched_and_reported_by_its_own_metric(
    metric: Metric, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    searched(tmp_path / "run", config_of(metric.name, "macs"), load_space("shapes"))
    run, trials = open_run(tmp_path / "run")
    assert run.metric == metric
    done = [t for t in trials if t.status == "complete" and not t.origin.is_finalist]
    values = {t.number: t.epochs[2].metrics[metric.name] for t in done}
    assert {t.number: t.values[0] for t in done if t.values} == values

    facts = facts_of(run, trials)
    means = [row["mean"] for row in facts.standings]
    assert means == sorted(means, reverse=metric.direction == "maximize")
    assert select(trials, run.objectives, "best", facts.means).number == facts.standings[0]["trial"]
    text = (report.write(facts).parent / "report.md").read_text()
    assert f"| trial | from | {metric.label} | macs | placements |" in text
    assert f"mean {metric.label} |" in text
    assert "top-1" not in text
    assert "top1" not in text

    capsys.readouterr()
    report.print_report(Console(), facts, tmp_path / "run", json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["objectives"] == [metric.name, "macs"]
    assert facts.answer is not None
    means_of = {one.trial.number: one.mean.value for one in facts.answer.standings}
    assert {
        row["trial"]: row[metric.name] for row in told["rows"] if row["status"] == "complete"
    }.items() <= means_of.items()
    report.print_report(Console(width=200), facts, tmp_path / "run", json=False)
    assert f"{100 * means[0]:.1f} %" in capsys.readouterr().out


def test_a_journal_says_which_metric_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(tmp_path / "run", config_of("error", "macs"), load_space("shapes"))
    renamed = (METRICS[0], METRICS[1].model_copy(update={"label": "another name", "unit": ""}))
    monkeypatch.setitem(TASKS, "brightness", TaskRow("files_of_the_test:BRIGHTNESS", renamed))
    assert open_run(tmp_path / "run")[0].metric == METRICS[1]


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        (("top1", "macs"), "unknown objective 'top1'.*mean_iou, error, params"),
        (("mean_iou", "error"), "mean_iou and error are metrics of training; name one of them"),
        (("meaniou",), "did you mean 'mean_iou'"),
    ],
)
def test_objectives_are_the_metrics_of_the_data_s_task(objectives: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config_of(*objectives)


def test_proxies_of_another_task_are_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run.yaml").write_text("data: {name: greys}\nobjectives: [error, macs]\n")
    assert cli.run(["proxies", str(tmp_path / "run.yaml")]) == cli.USER_ERROR
    [line] = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "greys is for brightness; the proxies are computed from class labels, so they are for classification alone"
    )


def test_classification_has_none_of_its_metrics() -> None:
    with pytest.raises(ValidationError, match=r"unknown objective 'mean_iou'.*top1, params"):
        RunConfig.model_validate({"objectives": ("mean_iou",)})
