"""Builds networks, estimates their costs, and searches among them."""

from typing import TYPE_CHECKING

from search_spaces.lazy import lazily

if TYPE_CHECKING:
    from nas.builder import build_model
    from nas.decay import split_by_decay
    from nas.layout import memory_format
    from nas.starts import quick_start

__all__ = ["build_model", "memory_format", "quick_start", "split_by_decay"]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "builder": "build_model",
        "decay": "split_by_decay",
        "starts": "quick_start",
        "layout": "memory_format",
    },
)
