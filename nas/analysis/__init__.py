"""What a run's trials say: the front, how it grew, where which attention pays."""

from nas.analysis.effects import Effect, effects
from nas.analysis.front import Progress, front_of, progress, searched, select

__all__ = ["Effect", "Progress", "effects", "front_of", "progress", "searched", "select"]
