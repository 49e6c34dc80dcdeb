"""Exports a network as a config file."""

from nas.export.config import export

__all__ = ["export"]
