"""Networks, their costs, and the search among them."""

from nas.builder import build_model

__all__ = ["build_model"]
