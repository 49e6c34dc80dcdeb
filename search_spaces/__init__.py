"""Spaces of architectures: the one grammar, sampling and mutation, fingerprints. Needs no torch.

A skeleton has blocks, a block has slots, and a slot holds an option. `load_space` and `load_architecture` read the YAML
in which both are written; `OPTIONS` and `FAMILIES` say what it may hold.
"""

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
from search_spaces.options import OPTIONS, Option, Param, options
from search_spaces.sites import EMPTY, SLOTS, Block, Site, Slot, Value
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
    "Value",
    "choose",
    "load_architecture",
    "load_space",
    "options",
    "parse_architecture",
    "parse_space",
    "preset_names",
    "zoo_names",
]
