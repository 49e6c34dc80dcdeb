"""An estimate of a cost: a value with bounds, its source, and the conditions that it holds for."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch

Source: TypeAlias = Literal["analytic", "predicted", "measured"]

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
)
OPTIMIZERS: tuple[str, ...] = ("sgd", "adamw")


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """A value, its lower and upper bound, and its source.

    ``analytic``: derived without running the network. ``predicted``: from a calibration. ``measured``: from running
    the network. Bytes and counts are whole numbers stored as float.
    """

    value: float
    lower: float
    upper: float
    unit: str
    source: Source

    def __post_init__(self) -> None:
        assert self.lower <= self.value <= self.upper, self


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a figure.

    Attributes:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``. Analytic figures for CUDA need no GPU.
        batch_size: images of an inference.
        train_batch_size: images of a training step.
        dtype: unless it is ``"float32"``, networks run under autocast to it, with float32 weights.
        channels_last: memory format NHWC of weights and images.
        optimizer: ``"sgd"`` (Nesterov momentum) or ``"adamw"``, both fused.
        threads: CPU threads that one operation may use.
        micro_batches: number of parts of a training step's batch; their gradients are accumulated.
        compiled: measure with `torch.compile`; analytic figures are always those of eager mode.
        averaged: training also keeps an average of the weights. Only its memory counts, not its time.

    Raises:
        ValueError: a value is outside its range.
    """

    device: str = "cpu"
    batch_size: int = 32
    train_batch_size: int = 128
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    channels_last: bool = True
    optimizer: Literal["sgd", "adamw"] = "sgd"
    threads: int = 1
    micro_batches: int = 1
    compiled: bool = False
    averaged: bool = False

    def __post_init__(self) -> None:
        problems = []
        if self.device_type not in ("cpu", "cuda"):
            problems.append(f"device {self.device!r} is not known; use cpu, cuda or cuda:N")
        if self.dtype not in DTYPES:
            problems.append(f"dtype {self.dtype!r} is not known; use {', '.join(DTYPES)}")
        if self.optimizer not in OPTIMIZERS:
            problems.append(f"optimizer {self.optimizer!r} is not known; use {', '.join(OPTIMIZERS)}")
        for name in ("batch_size", "train_batch_size", "threads", "micro_batches"):
            if getattr(self, name) < 1:
                problems.append(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not problems and self.train_batch_size % self.micro_batches:
            problems.append(
                f"train_batch_size ({self.train_batch_size}) is not a multiple of micro_batches "
                f"({self.micro_batches}); change one of them"
            )
        if problems:
            raise ValueError("\n".join(problems))

    @property
    def device_type(self) -> str:
        """``"cpu"`` or ``"cuda"``."""
        return self.device.partition(":")[0]

    def to_dict(self) -> dict[str, str | int | bool]:
        """JSON-able. ``averaged`` is left out if it is false, so that stored figures from before it stay valid."""
        return {name: value for name, value in asdict(self).items() if name != "averaged" or value}
