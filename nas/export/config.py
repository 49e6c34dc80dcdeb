"""An architecture as a config file that says where it comes from."""

from collections.abc import Mapping

from search_spaces import Architecture


def export(architecture: Architecture, notes: Mapping[str, str]) -> str:
    """The architecture in the one grammar, with `notes` as comments above it, a line each.

    `search_spaces.parse_architecture` reads it back; the comments are for people.
    """
    lines = [f"# {name}: {' '.join(text.split())}" for name, text in notes.items()]
    return "\n".join([*lines, architecture.dump()])
