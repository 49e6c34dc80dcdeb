"""TensorBoard files of a run, written from its journal alone.

    RUN/tensorboard/search       the search over its finished trials; the answer, the pictures and the front at its end
    RUN/tensorboard/trial-0007   a trial's curves, and its line in the HPARAMS tab

A driver deletes the folder at its start and writes it anew, so it always agrees with the journal.
"""

import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard import summary

from launch.reports.drawn import scaled
from launch.reports.plots import pixels
from launch.reports.tables import metric_figure, metric_range, probability, text
from nas.analysis import FrontGrowth
from nas.analysis.answer import Answer
from nas.costs import MEASURES, UNITS
from nas.search import Metric, TrialRecord
from search_spaces import SearchSpace
from search_spaces.sites import EMPTY

_ENDED = ("complete", "stopped", "failed")
_STATUS = {"complete": api_pb2.STATUS_SUCCESS, "stopped": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}
_FULL, _STOPPED, _MEAN, _LOW, _COST = "trained/in full", "trained/stopped", "answer/mean", "answer/low", "cost"
"""Tags of the figures in the HPARAMS tab. The last value of a stopped trial is no value of a full training."""
_TOP = 20
_ORIGIN, _TRAINING = "from", "training"


class Board:
    """Writes what is new in a run's trials at each call."""

    def __init__(self, folder: Path, space: SearchSpace, metric: Metric, measures: Sequence[str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._metric, self._measures = metric, tuple(measures)
        self._space = space
        self._written: dict[int, int] = {}
        """Running trial -> the last epoch that is written."""
        self.closed: set[int] = set()
        """Trials that are written to their end."""
        self._progress = 0
        self._search = EventFile(folder / "search")
        self._search.add([(self._experiment(), 0), (self._layout(), 0)])

    def draw(self, trials: Iterable[TrialRecord], series: Sequence[FrontGrowth], most: int | None = None) -> None:
        """Adds what is new: epochs to the curves, ended trials to the HPARAMS tab, the progress of the search.

        Args:
            trials: The run's trials; `closed` ones may be left out.
            series: The front after each finished trial, from the first.
            most: The most trials to write in this call; later calls write the others.
        """
        added = 0
        for trial in trials:
            if most is not None and added >= most:
                break
            if trial.number not in self.closed:
                added += self._trial(trial)
        self._search.add(
            [
                (_scalars(self._grown(growth)), at)
                for at, growth in enumerate(series[self._progress :], self._progress + 1)
            ]
        )
        self._progress = max(self._progress, len(series))

    def _grown(self, growth: FrontGrowth) -> dict[str, float]:
        found = {"hypervolume": growth.hypervolume, "front/members": growth.front}
        if growth.best is not None:
            found[f"front/best {metric_name(self._metric)}"] = self._metric.shown.factor * growth.best
        return found

    def _trial(self, trial: TrialRecord) -> bool:
        """Writes a trial; returns whether it had anything new."""
        written, last = self._written.get(trial.number, 0), trial.last_epoch
        ended = trial.status in _ENDED
        if not last or not (ended or (trial.status == "active" and last > written)):
            return False
        summaries: list[tuple[Summary, int]] = []
        for epoch in range(written + 1, last + 1):
            record = trial.epochs[epoch]
            summaries.append((_scalars({**record.metrics, "lr": record.lr, "seconds": record.seconds}), epoch))
        if ended:
            # Only now it is known how far the trial was trained.
            summaries.insert(0, (self._session(trial), 0))
            final = {
                f"{_COST}/{measure}": scaled(trial.costs[measure].value, measure)
                for measure in self._measures
                if measure in trial.costs
            }
            value = trial.latest(self._metric.name)
            if value is not None and trial.status != "failed":
                final[_FULL if trial.status == "complete" else _STOPPED] = self._metric.shown.factor * value
            summaries.append((_scalars(final), trial.number))  # a chart of many trials is then one over the search
            end = plugin_data_pb2.SessionEndInfo(status=_STATUS[trial.status])
            summaries.append((_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end), 0))
        self._file(trial.number).add(summaries)
        if ended:
            self._written.pop(trial.number, None)
            self.closed.add(trial.number)
        else:
            self._written[trial.number] = last
        return True

    def answer(self, answer: Answer, told: Sequence[str], step: int) -> None:
        """Adds the answer's sentences and effects as text, and each network's mean over its seeds to its trial, with
        the lower bound.
        """
        metric, factor = self._metric, self._metric.shown.factor
        for standing in answer.standings:
            found = {_MEAN: factor * standing.mean.value, _LOW: factor * standing.mean.low}
            self._file(standing.trial.number).add([(_scalars(found), standing.trial.number)])
        unit = f" {metric.shown.difference}".rstrip()
        lines = [f"| option | place | slot | gain{unit} | 95 % | trainings |", "|---|---|---|---:|---|---:|"]
        lines += [
            f"| {effect.place.option} | {effect.place.label} | {effect.place.slot} "
            f"| {metric_figure(effect.gain.value, metric)} | {metric_range(effect.gain.low, effect.gain.high, metric)} "
            f"| {effect.trainings} |"
            for effect in sorted(answer.effects, key=lambda effect: -effect.gain.low)
        ]
        top = [f"| trial | mean {metric.label} | 95 % | on the front |", "|---:|---:|---|---:|"]
        top += [
            f"| {standing.trial.number} | {metric_figure(standing.mean.value, metric)} "
            f"| {metric_range(standing.mean.low, standing.mean.high, metric)} "
            f"| {probability(standing.on_front)} |"
            for standing in answer.standings[:_TOP]
        ]
        self.text("answer/in short", "\n\n".join(told), step)  # its name sorts before the others
        self.text("answer/where attention pays", "\n".join(lines), step)
        self.text("answer/networks compared", "\n".join(top), step)

    def picture(self, tag: str, figure: Figure, step: int) -> None:
        """A picture under IMAGES."""
        self._search.add([(_image(tag, figure), step)])

    def file(self, tag: str, yaml: str, step: int = 0) -> None:
        """A file's text under TEXT, unchanged."""
        self.text(tag, "\n".join(f"    {line}" for line in yaml.splitlines()), step)

    def text(self, tag: str, markdown: str, step: int = 0) -> None:
        """Markdown under TEXT."""
        self._search.add([(summary.text(tag, markdown), step)])  # type: ignore[no-untyped-call]

    def _file(self, trial: int) -> "EventFile":
        return EventFile(self._folder / f"trial-{trial:04d}")

    def _experiment(self) -> Summary:
        """All columns of the HPARAMS tab. Written once, because no single trial has every conditional parameter."""
        choices = {readable(name): parameter.choices for name, parameter in self._space.parameters.items()}
        columns = [_column(_ORIGIN, ()), _column(_TRAINING, ())]
        columns += [_column(name, [text(choice) for choice in found]) for name, found in choices.items()]
        shown = metric_name(self._metric)
        figures = {
            _FULL: shown,
            _MEAN: f"mean {shown}",
            _LOW: f"lower bound {shown}",
            **{f"{_COST}/{measure}": measure_name(measure) for measure in self._measures},
            _STOPPED: f"{shown} when stopped",
        }
        metrics = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=name) for tag, name in figures.items()
        ]
        experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=metrics)
        return _hparams(metadata.EXPERIMENT_TAG, experiment=experiment)

    def _session(self, trial: TrialRecord) -> Summary:
        info = plugin_data_pb2.SessionStartInfo(group_name=str(trial.number))
        how = {"complete": "in full", "stopped": f"stopped after {trial.last_epoch}"}.get(trial.status, trial.status)
        assert trial.plan is not None, trial.number
        for name, value in {_ORIGIN: str(trial.origin), _TRAINING: how, **choices_of(self._space, trial.plan)}.items():
            info.hparams[name].string_value = value
        return _hparams(metadata.SESSION_START_INFO_TAG, session_start_info=info)

    def _layout(self) -> Summary:
        """Groups of charts under CUSTOM SCALARS: the search, the objectives, the training."""
        name = self._metric.name

        def lines(*tags: str) -> list[object]:
            return ["Multiline", [f"^{tag}$" for tag in tags]]

        costs = {measure_name(measure): lines(f"{_COST}/{measure}") for measure in self._measures}
        layout = {
            "the search": {
                "hypervolume": lines("hypervolume"),
                f"best {metric_name(self._metric)}": lines("front/best .*"),
                "members of the front": lines("front/members"),
            },
            "objectives, of all trials": {metric_name(self._metric): lines(_FULL), **costs},
            "trainings": {name: lines(name), "loss": lines("loss", "train_loss"), "learning rate": lines("lr")},
        }
        found: Summary = summary.custom_scalars(layout)  # type: ignore[no-untyped-call]
        return found


def metric_name(metric: Metric) -> str:
    """The metric with its unit, as a column's name: ``top-1 %``."""
    return f"{metric.label} {metric.shown.symbol}".rstrip()


def measure_name(measure: str) -> str:
    """The measure with the unit of its axis, as a column's name: ``latency ms``."""
    return f"{MEASURES[measure].label} {UNITS[MEASURES[measure].unit].axis[1]}"


def readable(parameter: str) -> str:
    """A parameter's name for people: ``layer3.conv``, ``layer3.conv.aa.heads``; ``everywhere`` for all blocks."""
    place, _, rest = parameter.partition("/")
    return ".".join(["everywhere" if place == "*" else place, *rest.split("/")])


def choices_of(space: SearchSpace, plan: Mapping[str, Any]) -> dict[str, str]:
    """A network's choices by `readable` names, read off its plan: repetitions and baselines have no parameters.

    A baseline need not be of the space: where blocks of one decision differ, all their options are named.
    """
    found: dict[str, str] = {}
    placements = plan["placements"]
    for group in space.groups:
        held = [placements.get(block, {}).get(group.slot, {EMPTY[group.slot]: {}}) for block in group.blocks]
        options = dict.fromkeys(option for choice in held for option in choice)
        if group.name in space.parameters:
            found[readable(group.name)] = " + ".join(options)
        for offer in group.offers:
            for name, _ in offer.params:
                parameter = group.parameter(offer, name)
                values = dict.fromkeys(text(c[offer.option][name]) for c in held if name in c.get(offer.option, {}))
                if parameter in space.parameters and values:
                    found[readable(parameter)] = " + ".join(values)
    return found


class EventFile:
    """The one TensorBoard file of a folder. It is open only during a write.

    A `SummaryWriter` keeps a thread and an open file, too many for thousands of trials that wait at a rung.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "events.out.tfevents.0.nas"

    def add(self, summaries: Sequence[tuple[Summary, int]]) -> None:
        """Adds summaries, each with its step.

        Raises:
            OSError: the file cannot be written.
        """
        if not summaries:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        now = time.time()
        events = [Event(wall_time=now, step=step, summary=one) for one, step in summaries]
        if not self._path.exists():
            events.insert(0, Event(wall_time=now, file_version="brain.Event:2"))
        with self._path.open("ab") as file:
            writer = RecordWriter(file)
            for event in events:
                writer.write(event.SerializeToString())


def add_pictures(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Adds figures under IMAGES, by tag, to the TensorBoard file of a folder.

    Raises:
        OSError: the file cannot be written.
    """
    EventFile(folder).add([(_image(tag, figure), 0) for tag, figure in figures.items()])


def _image(tag: str, figure: Figure) -> Summary:
    found: Summary = summary.image(tag, pixels(figure), dataformats="HWC")  # type: ignore[no-untyped-call]
    return found


def _scalars(values: Mapping[str, float]) -> Summary:
    """Points of several curves at one step."""
    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def _hparams(tag: str, **content: Any) -> Summary:
    """A summary for the HPARAMS tab. TensorBoard's own helpers for this need TensorFlow."""
    proto = Summary()
    plugin_data = plugin_data_pb2.HParamsPluginData(**content)
    proto.value.add(tag=tag, metadata=metadata.create_summary_metadata(plugin_data), tensor=metadata.NULL_TENSOR)
    return proto


def _column(name: str, choices: Sequence[str]) -> api_pb2.HParamInfo:
    """A column of text. A number would be shown with four decimals: ``4.0000`` heads."""
    column = api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_STRING)
    for choice in choices:
        column.domain_discrete.values.add(string_value=choice)
    return column
