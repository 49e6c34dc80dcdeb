"""Spaces of architectures: the one grammar, sampling and mutation, fingerprints. Needs no torch.

A skeleton has blocks, a block has slots, and a slot holds an option. `load_space` and `load_architecture` read YAML
files. `OPTIONS` and `FAMILIES` list what the files may contain.

Importing the package is cheap: modules that need pydantic or yaml are imported when one of their names is first used.
"""

from typing import TYPE_CHECKING

from search_spaces.errors import UserFacingError
from search_spaces.lazy import lazily
from search_spaces.options import OPTIONS, Option, Param, options
from search_spaces.sites import EMPTY, SLOTS, Block, Site, Slot, Value

if TYPE_CHECKING:
    from search_spaces.architecture import Architecture
    from search_spaces.files import (
        load_architecture,
        load_space,
        parse_architecture,
        parse_space,
        preset_names,
        zoo_names,
    )
    from search_spaces.grammar import Choice, Offer, SpaceError, choose
    from search_spaces.schema import json_schema
    from search_spaces.skeletons import FAMILIES, Skeleton
    from search_spaces.space import Group, Parameter, SearchSpace, Trial
    from search_spaces.yamlfile import FileError, Problem

__all__ = [
    "EMPTY",
    "FAMILIES",
    "OPTIONS",
    "SLOTS",
    "Architecture",
    "Block",
    "Choice",
    "FileError",
    "Group",
    "Offer",
    "Option",
    "Param",
    "Parameter",
    "Problem",
    "SearchSpace",
    "Site",
    "Skeleton",
    "Slot",
    "SpaceError",
    "Trial",
    "UserFacingError",
    "Value",
    "choose",
    "json_schema",
    "load_architecture",
    "load_space",
    "options",
    "parse_architecture",
    "parse_space",
    "preset_names",
    "zoo_names",
]

__getattr__, __dir__ = lazily(
    __name__,
    {
        "architecture": "Architecture",
        "files": "load_architecture load_space parse_architecture parse_space preset_names zoo_names",
        "grammar": "Choice Offer SpaceError choose",
        "schema": "json_schema",
        "skeletons": "FAMILIES Skeleton",
        "space": "Group Parameter SearchSpace Trial",
        "yamlfile": "FileError Problem",
    },
)
