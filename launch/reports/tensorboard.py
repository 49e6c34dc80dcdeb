"""TensorBoard files of a run, drawn from its journal and from nothing else.

    RUN/tensorboard/search       hypervolume and front size over finished trials, the front as a picture, exported YAML
    RUN/tensorboard/trial-0007   a trial's curves, and its line in the HPARAMS tab

The folder is a drawing: it is thrown away and drawn anew when a driver starts, so it never disagrees with the journal.
"""

import io
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2
from torch.utils.tensorboard import SummaryWriter

from nas.analysis import FrontGrowth
from nas.search import ACCURACY, TrialRecord
from search_spaces import SearchSpace

_ENDED = ("complete", "stopped", "failed")
_STATUS = {"complete": api_pb2.STATUS_SUCCESS, "stopped": api_pb2.STATUS_SUCCESS, "failed": api_pb2.STATUS_FAILURE}


class Board:
    """Writes what is new of a run's trials each time it is shown them."""

    def __init__(self, folder: Path, space: SearchSpace, measures: Sequence[str]) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self._folder = folder
        self._measures = tuple(measures)
        self._parameters = {name: parameter.choices for name, parameter in space.parameters.items()}
        self._written: dict[int, int] = {}
        self.closed: set[int] = set()
        """Trials that are drawn to their end."""
        self._progress = 0
        self._writers: dict[int, SummaryWriter] = {}
        self._search = _writer(folder / "search")
        self._add(self._search, self._experiment())

    def draw(self, trials: Iterable[TrialRecord], series: Sequence[FrontGrowth]) -> None:
        """Adds what is new: epochs to the curves, ended trials to the HPARAMS tab, the search's own progress.

        Args:
            trials: Those of the run; of thousands a few are new, and `closed` ones may be left out.
            series: The search after each finished trial, from the first.
        """
        for trial in trials:
            if trial.number not in self.closed:
                self._trial(trial)
        for finished in range(self._progress, len(series)):
            self._search.add_scalar("hypervolume", series[finished].hypervolume, finished + 1)
            self._search.add_scalar("front_size", series[finished].front, finished + 1)
        self._progress = len(series)
        for writer in (self._search, *self._writers.values()):
            writer.flush()

    def _trial(self, trial: TrialRecord) -> None:
        if trial.status not in ("active", *_ENDED):
            return
        writer = self._writers.get(trial.number)
        if writer is None:
            if not trial.epochs:
                return
            writer = self._writers[trial.number] = _writer(self._folder / f"trial-{trial.number:04d}")
            self._add(writer, self._session(trial))
        for epoch in range(self._written.get(trial.number, 0) + 1, trial.last_epoch + 1):
            record = trial.epochs[epoch]
            for curve, value in {**record.metrics, "lr": record.lr, "seconds": record.seconds}.items():
                writer.add_scalar(curve, value, epoch)
            self._written[trial.number] = epoch
        if trial.status in _ENDED:
            self._close(trial)

    def picture(self, tag: str, figure: Figure, step: int) -> None:
        """A picture under IMAGES."""
        self._search.add_image(tag, pixels(figure), step, dataformats="HWC")

    def text(self, tag: str, yaml: str, step: int = 0) -> None:
        """A file's text under TEXT, as it is."""
        self._search.add_text(tag, "\n".join(f"    {line}" for line in yaml.splitlines()), step)

    def close(self) -> None:
        """Ends all files."""
        for writer in (self._search, *self._writers.values()):
            writer.close()

    def _close(self, trial: TrialRecord) -> None:
        writer = self._writers.pop(trial.number)
        last = trial.last_epoch
        writer.add_scalar("final/top1", trial.epochs[last].metrics[ACCURACY], last)
        for measure in self._measures:
            if measure in trial.costs:
                writer.add_scalar(f"final/{measure}", trial.costs[measure].value, last)
        ended = plugin_data_pb2.SessionEndInfo(status=_STATUS[trial.status])
        self._add(writer, _hparams(metadata.SESSION_END_INFO_TAG, session_end_info=ended))
        writer.close()
        self.closed.add(trial.number)

    def _experiment(self) -> Summary:
        """All columns of the HPARAMS tab: written once, for no single trial has every conditional parameter."""
        columns = [_column("origin", ()), *(_column(name, choices) for name, choices in self._parameters.items())]
        metrics = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=f"final/{name}"), display_name=name)
            for name in ("top1", *self._measures)
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

    @staticmethod
    def _add(writer: SummaryWriter, proto: Summary) -> None:
        writer._get_file_writer().add_summary(proto)  # type: ignore[no-untyped-call]


def pixels(figure: Figure) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The figure as [H, W, 3]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()  # type: ignore[no-untyped-call]


def png(figure: Figure) -> bytes:
    """The figure as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(pixels(figure)).save(out, "PNG", optimize=True)
    return out.getvalue()


def _writer(folder: Path) -> SummaryWriter:
    return SummaryWriter(str(folder))


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
