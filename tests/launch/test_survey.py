"""Tests `nas proxy`, and the change of a run's settings; no training: the jobs get invented accuracies."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launch import session, survey
from launch.cli.app import run as nas
from launch.errors import Interrupted, UserError
from launch.rundir.run import Run, open_run
from nas.search import Engine, EpochRecord, Job

RUN = """\
space: shapes
data: {name: shapes, train_size: 64, val_size: 32}
trainer: {epochs: 4, batch_size: 32, warmup_epochs: 0.5}
objectives: [top1, params]
search: {trials: 10, eta: 2, decide: 0.2}
"""


def accuracy(job: Job, epoch: int) -> float:
    """Grows with the number of places from the second epoch on; the first says nothing."""
    architecture = job.architecture
    told = sum(map(len, architecture.placements.values())) if epoch > 1 else int(architecture.fingerprint[0], 16)
    return min(0.99, 0.2 + 0.1 * epoch + 0.01 * told + 0.001 * job.seed)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, train_jobs: Callable[..., None]) -> list[tuple[str, int, int, int]]:
    """Replaces the training. Lists the trained epochs: the run's folder, trial, seed, epoch."""
    done: list[tuple[str, int, int, int]] = []

    def train(run: Run, _journal: object, engine: Engine, *_others: object) -> None:
        def noted(job: Job, epoch: int) -> float:
            done.append((run.folder.name, job.number, job.seed, epoch))
            return accuracy(job, epoch)

        train_jobs(engine, accuracy=noted, seconds=2.0)

    monkeypatch.setattr(session, "_train", train)
    return done


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a run file."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(RUN)
    return tmp_path


Trained = list[tuple[str, int, int, int]]


def test_the_networks_are_trained_in_full_with_every_seed_and_compared(
    here: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert nas(["proxy", "run.yaml", "--networks", "6", "--seeds", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(trained) == len(set(trained)) == 6 * 3 * 4
    assert [row["epoch"] for row in found["epochs"]] == [1, 2, 3, 4]
    first, second, *_ = found["epochs"]
    assert second["own_end"]["value"] == second["other_end"]["value"] == pytest.approx(1)
    assert first["own_end"]["value"] < 0.9
    assert first["core_seconds"] == 2
    assert "--set search.min_epochs=2 --set search.eta=2" in found["advice"][0]


def test_cheaper_proxies_train_the_same_networks(
    here: Path, trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    cheaper = ["--data", "0.5", "--epochs", "2", "--image", "24"]
    assert nas(["proxy", "run.yaml", "--networks", "5", *cheaper]) == 0
    out = capsys.readouterr().out
    names = {name for name, *_ in trained}
    assert names == {"run", "data-0.5", "epochs-2", "image-24"}
    assert all(f"{name} is enough" in out for name in names - {"run"})
    full, _ = open_run(here / "runs/run")
    placed = [trial.architecture.placements for trial in open_run(here / "runs/run")[1][:5]]
    for name, images, side, epochs in (("data-0.5", 32, 32, 4), ("epochs-2", 64, 32, 2), ("image-24", 64, 24, 4)):
        run, trials = open_run(full.folder / "proxies" / name)
        assert (run.config.data.train_size, run.space.plain().skeleton.image_size) == (images, side)
        assert [trial.architecture.placements for trial in trials[:5]] == placed
        assert {trial.last_epoch for trial in trials} == {epochs}
        assert len(trials) == 10


def test_a_search_continues_with_the_trainings(here: Path, trained: Trained) -> None:
    assert nas(["proxy", "run.yaml", "--networks", "6"]) == 0
    already = len(trained)
    assert nas(["resume", "runs/run", "--set", "search.trials=8"]) == 0
    _, trials = open_run(here / "runs/run")
    searched = [trial for trial in trials if trial.plan is not None and not trial.origin.is_finalist]
    assert len(searched) == 8
    assert len(set(trained)) == len(trained)
    assert {number for _, number, *_ in trained[already:]}.isdisjoint(number for _, number, *_ in trained[:already])


def test_an_interrupted_survey_continues_where_it_was(
    here: Path, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = session._train

    def interrupted(*arguments: Any) -> None:
        engine = arguments[2]
        for _ in range(4):
            job = engine.next()
            engine.report(job, EpochRecord(1, {"top1": 0.3, "loss": 1.0}, 0.1, 2.0))
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(session, "_train", interrupted)
        assert nas(["proxy", "run.yaml", "--networks", "6"]) == 130
    assert session._train is train
    assert nas(["proxy", "runs/run", "--networks", "6"]) == 0
    assert len([epoch for _, _, _, epoch in trained if epoch == 1]) == 6 * 2 - 4
    again = len(trained)
    assert nas(["proxy", "runs/run", "--networks", "6"]) == 0
    assert len(trained) == again


def test_a_search_under_way_is_left_alone(
    make_run: Callable[..., Run], trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run(jobs=8)
    assert nas(["proxy", str(run.folder)]) == 2
    assert "a search is under way" in capsys.readouterr().err
    assert not trained


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run.yaml", "--data", "1.5"], "--data 1.5: it must be above 0 and below 1"),
        (["run.yaml", "--image", "0"], "image-0"),
        (["run.yaml", "--epochs", "0"], "epochs-0: trainer.epochs"),
        (["runs", "--set", "search.trials=3"], "whose settings are fixed"),
    ],
)
def test_impossible_proxies_are_refused_before_any_training(
    here: Path, trained: Trained, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (here / "runs").mkdir()
    assert nas(["proxy", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not trained


def test_too_few_networks_are_told(whole: Run, trained: Trained) -> None:
    found = {survey.FULL: {"trial-0": [open_run(whole.folder)[1][0]]}}
    with pytest.raises(UserError, match="1 networks were trained with 1 seeds"):
        list(survey._curves(found, ["trial-0", "trial-1"], 1, whole))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("trainer.epochs=9", "trainer.epochs cannot change after a run was begun"),
        ("search.trials=none", "search.trials"),
        ("search.stopping=hyperband", "its trials are in 1 brackets of mo_asha"),
    ],
)
def test_settings_that_would_not_fit_the_trials_cannot_change(
    make_run: Callable[..., Run], capsys: pytest.CaptureFixture[str], assignment: str, message: str
) -> None:
    run = make_run(jobs=3)
    before = open_run(run.folder)[0].config
    assert nas(["resume", str(run.folder), "--set", assignment]) == 2
    assert message in capsys.readouterr().err
    assert open_run(run.folder)[0].config == before


def test_deciding_goes_on_where_it_was_not_decided(
    here: Path, trained: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nas(["search", "run.yaml", "--set", "search.decide=0"]) == 0
    searched = list(trained)
    told: list[int] = []

    def decider(_trials: object, *, left: int, **_others: object) -> int:
        told.append(left)
        return 0

    monkeypatch.setattr(session, "most_telling", decider)
    for _ in range(2):
        assert nas(["decide", "runs/run", "--epochs", "9"]) == 0
    again = trained[len(searched) :]
    assert [seed for _, _, seed, epoch in again if epoch == 1] == [1, 2, 3, 4], "9 epochs are two trainings of 4"
    assert told[:2] == [2, 1]
    assert nas(["decide", "runs/run", "--epochs", "3"]) == 2
    assert "a training of this run takes 4" in capsys.readouterr().err
