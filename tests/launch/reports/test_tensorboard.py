import io
import itertools
import re
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import metadata, plugin_data_pb2

from launch.reports import report
from launch.reports.facts import facts_of
from launch.reports.tables import text
from launch.reports.tensorboard import Board, EventFile, readable
from launch.rundir.run import Run, open_run
from launch.session import Drawing
from nas.analysis import progress
from nas.analysis.answer import Answer
from nas.search import read_study


@pytest.fixture
def drawn(make_run: Callable[..., Run], make_answer: Callable[..., Answer]) -> tuple[Run, dict[str, EventAccumulator]]:
    run, trials = open_run(make_run().folder)
    board = Board(run.folder / "tensorboard", run.space, run.metric, run.measures)
    series = progress(trials, run.objectives, run.reference)
    board.draw(trials[:3], series[:1])
    board.draw(trials, series)  # existing events are not written again
    for name, figure in report.figures(facts_of(run, trials)).items():
        board.picture(name, figure, 1)
    board.file("front/trial", "schema: 1")
    board.answer(make_answer(run, trials), ["Take it.", "It is good."], len(trials))
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
        here, not_here = ("full", "stopped") if trial.status == "complete" else ("stopped", "full")
        ends = {"full": "trained/in full", "stopped": "trained/stopped"}
        last = trial.epochs[trial.last_epoch].metrics["top1"]
        assert board.Scalars(ends[here])[0].value == pytest.approx(100 * last)
        assert ends[not_here] not in board.Tags()["scalars"]
        assert board.Scalars("cost/macs")[0].value == pytest.approx(trial.costs["macs"].value / 1e6)


def test_the_hparams_tab_knows_all_choices(drawn: tuple[Run, dict[str, EventAccumulator]]) -> None:
    run, boards = drawn
    content = boards["search"].PluginTagToContent(metadata.PLUGIN_NAME)[metadata.EXPERIMENT_TAG]
    experiment = plugin_data_pb2.HParamsPluginData.FromString(content).experiment
    columns = {
        info.name: [value.string_value for value in info.domain_discrete.values] for info in experiment.hparam_infos
    }
    assert columns.keys() == {"from", "training", *map(readable, run.space.parameters)}
    assert "/" not in "".join(columns)
    for name, parameter in run.space.parameters.items():
        assert len(columns[readable(name)]) == len(parameter.choices)
    names = {info.name.tag: info.display_name for info in experiment.metric_infos}
    assert names["trained/in full"] == "top-1 %"
    assert names["trained/stopped"] == "top-1 % when stopped"
    assert names["cost/macs"] == "multiply-adds M"
    _, trials = open_run(run.folder)
    for trial in trials:  # the repetitions of finalists too
        if not trial.epochs:
            continue
        content = boards[f"trial-{trial.number:04d}"].PluginTagToContent(metadata.PLUGIN_NAME)
        data = plugin_data_pb2.HParamsPluginData.FromString(content[metadata.SESSION_START_INFO_TAG])
        told = {name: value.string_value for name, value in data.session_start_info.hparams.items()}
        assert told["from"] == str(trial.origin)
        assert all(told[readable(group.name)] for group in run.space.groups if group.name in run.space.parameters)
        if trial.params:
            assert {readable(name): text(value) for name, value in trial.params.items()}.items() <= told.items()


def test_the_mean_of_the_seeds_stands_beside_the_first_value(
    drawn: tuple[Run, dict[str, EventAccumulator]], make_answer: Callable[..., Answer]
) -> None:
    run, boards = drawn
    _, trials = open_run(run.folder)
    for standing in make_answer(run, trials).standings:
        board = boards[f"trial-{standing.trial.number:04d}"]
        assert board.Scalars("answer/mean")[0].value == pytest.approx(100 * standing.mean.value)
        assert {"answer/where attention pays/text_summary", "answer/networks compared/text_summary"} <= set(
            boards["search"].Tags()["tensors"]
        )
        assert board.Scalars("answer/low")[0].value == pytest.approx(100 * standing.mean.low)


def test_the_answers_sentences_stand_alone_as_text(drawn: tuple[Run, dict[str, EventAccumulator]]) -> None:
    _, boards = drawn
    (event,) = boards["search"].Tensors("answer/in short/text_summary")
    assert event.tensor_proto.string_val == [b"Take it.\n\nIt is good."]


def test_charts_are_grouped_by_what_they_are_of(drawn: tuple[Run, dict[str, EventAccumulator]]) -> None:
    _, boards = drawn
    [stored] = boards["search"].Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(stored.tensor_proto.string_val[0])
    charts = {category.title: [list(chart.multiline.tag) for chart in category.chart] for category in layout.category}
    assert ["^cost/macs$"] in charts["objectives, of all trials"]
    tags = [tag for board in boards.values() for tag in board.Tags()["scalars"]]
    for patterns in itertools.chain.from_iterable(charts.values()):
        assert any(re.search(pattern, tag) for pattern in patterns for tag in tags), patterns


def test_an_ended_trial_is_marked_so(drawn: tuple[Run, dict[str, EventAccumulator]]) -> None:
    _, boards = drawn
    assert metadata.SESSION_END_INFO_TAG in boards["trial-0001"].PluginTagToContent(metadata.PLUGIN_NAME)


def test_the_search_has_progress_pictures_and_text(drawn: tuple[Run, dict[str, EventAccumulator]]) -> None:
    run, boards = drawn
    _, trials = open_run(run.folder)
    series = progress(trials, run.objectives, run.reference)
    hypervolume = [event.value for event in boards["search"].Scalars("hypervolume")]
    assert hypervolume == pytest.approx([point.hypervolume for point in series])
    assert hypervolume == sorted(hypervolume)
    best = [event.value for event in boards["search"].Scalars("front/best top-1 %")]
    assert best == sorted(best)
    complete = [trial for trial in trials if trial.status == "complete" and not trial.origin.is_finalist]
    assert best[-1] == pytest.approx(100 * max(trial.epochs[4].metrics["top1"] for trial in complete))
    assert {"front-macs", "front-params", "progress", "effects"} <= set(boards["search"].Tags()["images"])
    assert "front/trial/text_summary" in boards["search"].Tags()["tensors"]


def test_trials_that_wait_keep_no_file_and_no_thread(make_run: Callable[..., Run]) -> None:
    run, trials = open_run(make_run().folder)
    threads, files = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    board = Board(run.folder / "tensorboard", run.space, run.metric, run.measures)
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
    assert [event.step for event in board.Images("front-macs")] == [8, 16, len(trials)]
    series = progress(trials, run.objectives, run.reference)
    hypervolume = [event.value for event in board.Scalars("hypervolume")]
    assert hypervolume == pytest.approx([point.hypervolume for point in series])
