import io
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from launch.reports import report
from launch.reports.facts import facts_of
from launch.reports.tensorboard import Board, EventFile
from launch.rundir.run import Run, open_run
from launch.session import Drawing
from nas.analysis import progress
from nas.search import read_study


@pytest.fixture
def drawn(make_run: Callable[..., Run]) -> tuple[Run, dict[str, EventAccumulator]]:
    run, trials = open_run(make_run().folder)
    board = Board(run.folder / "tensorboard", run.space, run.metric.name, run.measures)
    series = progress(trials, run.objectives, run.reference)
    board.draw(trials[:3], series[:1])
    board.draw(trials, series)  # existing events are not written again
    for name, figure in report.figures(facts_of(run, trials)).items():
        board.picture(name, figure, 1)
    board.text("front/trial", "schema: 1")
    found = {}
    for folder in (run.folder / "tensorboard").iterdir():
        found[folder.name] = EventAccumulator(str(folder)).Reload()
    return run, found


def test_every_trial_has_its_curves_once(drawn: tuple[Run, dict[str, EventAccumulator]]) -> None:
    run, boards = drawn
    _, trials = open_run(run.folder)
    for trial in trials:
        if not trial.epochs:
            assert f"trial-{trial.number:04d}" not in boards
            continue
        board = boards[f"trial-{trial.number:04d}"]
        for curve in ("train_loss", "loss", "top1", "lr", "seconds"):
            assert [event.step for event in board.Scalars(curve)] == sorted(trial.epochs)
        assert board.Scalars("final/top1")[0].value == pytest.approx(trial.epochs[trial.last_epoch].metrics["top1"])


def test_the_hparams_tab_knows_all_choices(drawn: tuple[Run, dict[str, EventAccumulator]]) -> None:
    run, boards = drawn
    content = boards["search"].PluginTagToContent(metadata.PLUGIN_NAME)[metadata.EXPERIMENT_TAG]
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    assert {info.name for info in experiment.hparam_infos} == {"origin", *run.space.parameters}
    assert [info.name.tag for info in experiment.metric_infos] == ["final/top1", "final/macs", "final/params"]
    content = boards["trial-0001"].PluginTagToContent(metadata.PLUGIN_NAME)[metadata.SESSION_START_INFO_TAG]
    session = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert session.hparams["origin"].string_value == "baseline se"
    assert metadata.SESSION_END_INFO_TAG in boards["trial-0001"].PluginTagToContent(metadata.PLUGIN_NAME)


def test_the_search_has_progress_pictures_and_text(drawn: tuple[Run, dict[str, EventAccumulator]]) -> None:
    run, boards = drawn
    _, trials = open_run(run.folder)
    series = progress(trials, run.objectives, run.reference)
    hypervolume = [event.value for event in boards["search"].Scalars("hypervolume")]
    assert hypervolume == pytest.approx([point.hypervolume for point in series])
    assert hypervolume == sorted(hypervolume)
    assert {"front-macs", "front-params", "progress", "effects"} <= set(boards["search"].Tags()["images"])
    assert "front/trial/text_summary" in boards["search"].Tags()["tensors"]


def test_trials_that_wait_keep_no_file_and_no_thread(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    board = Board(run.folder / "tensorboard", run.space, run.metric.name, run.measures)
    waiting = [replace(trial, status="active") for trial in trials if trial.epochs]
    board.draw(waiting, [], most=2)
    assert len(list((run.folder / "tensorboard").glob("trial-*"))) == 2
    board.draw(waiting, [])
    assert len(list((run.folder / "tensorboard").glob("trial-*"))) == len(waiting) > 5
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == files


def test_a_failed_drawing_is_reported_once_and_the_search_continues(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, trials = open_run(make_run().folder)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    said = Console(file=io.StringIO(), width=500)
    drawing = Drawing(run, run.reference, said)
    monkeypatch.setattr(EventFile, "add", full)
    for _ in range(2):
        drawing.draw(read_study(run.folder))
        drawing.finish(facts_of(run, trials))
    assert isinstance(said.file, io.StringIO)
    assert (
        said.file.getvalue().count("is no longer drawn: [Errno 28] No space left on device; the search continues") == 1
    )


def test_drawing_during_the_search_gives_the_same_files_as_at_the_end(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    drawing = Drawing(run, run.reference, Console(file=io.StringIO()))
    for _ in range(2):
        drawing.draw(read_study(run.folder))
    drawing.finish(facts_of(run, trials))
    board = EventAccumulator(str(run.folder / "tensorboard" / "search")).Reload()
    series = progress(trials, run.objectives, run.reference)
    hypervolume = [event.value for event in board.Scalars("hypervolume")]
    assert hypervolume == pytest.approx([point.hypervolume for point in series])
