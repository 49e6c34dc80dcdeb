"""Builds networks, estimates their costs, and searches among them."""

from nas.builder import build_model
from nas.decay import split_by_decay

__all__ = ["build_model", "split_by_decay"]
