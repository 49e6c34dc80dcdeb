"""Writes an architecture as a config file, with comments on its origin."""

from collections.abc import Mapping

from search_spaces import Architecture


def export(architecture: Architecture, notes: Mapping[str, str]) -> str:
    """The architecture as YAML, after `notes` as comments of one line each.

    `search_spaces.parse_architecture` reads it back and ignores the comments.
    """
    lines = [f"# {name}: {' '.join(text.split())}" for name, text in notes.items()]
    return "\n".join([*lines, architecture.dump()])
