"""TensorBoard files of a run, written from its journal alone.

    RUN/tensorboard/search       hypervolume and front size over finished trials, the front as a picture, exported YAML
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

from launch.reports.plots import pixels
from nas.analysis import FrontGrowth
from nas.search import TrialRecord
from search_spaces import SearchSpace

_ENDED = ("complete", "stopped", "failed")
_STATUS = {"complete": api_pb2.STATUS_SUCCESS, "stopped": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}


class Board:
    """Writes what is new in a run's trials at each call."""

    def __init__(self, folder: Path, space: SearchSpace, metric: str, measures: Sequence[str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._metric, self._measures = metric, tuple(measures)
        self._parameters = {name: parameter.choices for name, parameter in space.parameters.items()}
        self._written: dict[int, int] = {}
        """Running trial -> the last epoch that is written."""
        self.closed: set[int] = set()
        """Trials that are written to their end."""
        self._progress = 0
        self._search = EventFile(folder / "search")
        self._search.add([(self._experiment(), 0)])

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
                (_scalars({"hypervolume": growth.hypervolume, "front_size": growth.front}), finished)
                for finished, growth in enumerate(series[self._progress :], self._progress + 1)
            ]
        )
        self._progress = max(self._progress, len(series))

    def _trial(self, trial: TrialRecord) -> bool:
        """Writes a trial; returns whether it had anything new."""
        written, last = self._written.get(trial.number, 0), trial.last_epoch
        ended = trial.status in _ENDED
        if not last or not (ended or (trial.status == "active" and last > written)):
            return False
        summaries = [] if written else [(self._session(trial), 0)]
        for epoch in range(written + 1, last + 1):
            record = trial.epochs[epoch]
            summaries.append((_scalars({**record.metrics, "lr": record.lr, "seconds": record.seconds}), epoch))
        if ended:
            final = {self._metric: trial.latest(self._metric) or 0.0}
            final |= {measure: trial.costs[measure].value for measure in self._measures if measure in trial.costs}
            summaries.append((_scalars({f"final/{name}": value for name, value in final.items()}), last))
            end = plugin_data_pb2.SessionEndInfo(status=_STATUS[trial.status])
            summaries.append((_hparams(metadata.SESSION_END_INFO_TAG, session_end_info=end), 0))
        EventFile(self._folder / f"trial-{trial.number:04d}").add(summaries)
        if ended:
            self._written.pop(trial.number, None)
            self.closed.add(trial.number)
        else:
            self._written[trial.number] = last
        return True

    def picture(self, tag: str, figure: Figure, step: int) -> None:
        """A picture under IMAGES."""
        self._search.add([(summary.image(tag, pixels(figure), dataformats="HWC"), step)])  # type: ignore[no-untyped-call]

    def text(self, tag: str, yaml: str, step: int = 0) -> None:
        """A file's text under TEXT, unchanged."""
        text = "\n".join(f"    {line}" for line in yaml.splitlines())
        self._search.add([(summary.text(tag, text), step)])  # type: ignore[no-untyped-call]

    def _experiment(self) -> Summary:
        """All columns of the HPARAMS tab. Written once, because no single trial has every conditional parameter."""
        columns = [_column("origin", ()), *(_column(name, choices) for name, choices in self._parameters.items())]
        metrics = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f"final/{name}"), display_name=name)
            for name in (self._metric, *self._measures)
        ]
        experiment = api_pb2.Experiment(hparam_infos=columns, metric_infos=metrics)
        return _hparams(metadata.EXPERIMENT_TAG, experiment=experiment)

    def _session(self, trial: TrialRecord) -> Summary:
        info = plugin_data_pb2.SessionStartInfo(group_name=str(trial.number))
        info.hparams["origin"].string_value = str(trial.origin)
        for name, value in trial.params.items():
            if _is_number(value):
                info.hparams[name].number_value = float(value)
            else:
                info.hparams[name].string_value = str(value)
        return _hparams(metadata.SESSION_START_INFO_TAG, session_start_info=info)


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


def _scalars(values: Mapping[str, float]) -> Summary:
    """Points of several curves at one step."""
    return Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])


def _hparams(tag: str, **content: Any) -> Summary:
    """A summary for the HPARAMS tab. TensorBoard's own helpers for this need TensorFlow."""
    proto = Summary()
    plugin_data = plugin_data_pb2.HParamsPluginData(**content)
    proto.value.add(tag=tag, metadata=metadata.create_summary_metadata(plugin_data), tensor=metadata.NULL_TENSOR)
    return proto


def _column(name: str, choices: Sequence[object]) -> api_pb2.HParamInfo:
    numbers = bool(choices) and all(_is_number(choice) for choice in choices)
    return api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_FLOAT64 if numbers else api_pb2.DATA_TYPE_STRING)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
