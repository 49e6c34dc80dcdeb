"""An estimate with its interval."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its 95 % interval; NaN where it cannot be computed."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f} to {self.high:.2f})"

    @property
    def sign(self) -> int:
        """1 or -1 if the whole interval is on one side of 0, else 0."""
        return int(self.low > 0) - int(self.high < 0)
