"""An estimate: a figure, how sure it is, and the conditions that it is taken under."""

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
    """A figure, what it can be at least and at most, and where it comes from.

    ``analytic`` figures are derived without running the network, ``predicted`` ones from a calibration, ``measured``
    ones from running it. Bytes and counts are whole numbers kept as float.
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
    """What a figure is taken under.

    Attributes:
        device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``. Analytic figures for CUDA need no GPU.
        batch_size: images of an inference.
        train_batch_size: images of a training step.
        dtype: other than ``"float32"``, networks run under autocast to it, with float32 weights.
        channels_last: memory format NHWC of weights and images.
        optimizer: ``"sgd"`` (Nesterov momentum) or ``"adamw"``, both fused.
        threads: CPU threads that one operation may use.
        micro_batches: parts that a training step's images are taken in, gradients added up.
        compiled: run through `torch.compile`. Measurements follow it; analytic figures are those of eager mode.

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
        """JSON-able."""
        return asdict(self)
