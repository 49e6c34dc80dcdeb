from collections.abc import Callable

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from launch.reports import report
from launch.reports.facts import facts_of
from launch.reports.tensorboard import Board
from launch.rundir.run import Run, open_run
from nas.analysis import progress


@pytest.fixture
def drawn(make_run: Callable[..., Run]) -> tuple[Run, dict[str, EventAccumulator]]:
    run, trials = open_run(make_run().folder)
    board = Board(run.folder / "tensorboard", run.space, run.measures)
    series = progress(trials, run.objectives, run.reference)
    board.draw(trials[:3], series[:1])
    board.draw(trials, series)  # what was drawn already is not drawn again
    for name, figure in report.figures(facts_of(run, trials)).items():
        board.picture(name, figure, 1)
    board.text("front/trial", "schema: 1")
    board.close()
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
