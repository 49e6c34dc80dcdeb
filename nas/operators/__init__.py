"""Attention operators: one file per paper, and the table of all operators."""

import functools
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import NoReturn

from nas.operators.aa import AA
from nas.operators.aw import AW
from nas.operators.bam import BAM_OPERATOR
from nas.operators.base import Cost, Operator, Replaced, Resolved, conv, conv_cost, norm_cost
from nas.operators.cbam import CBAM_OPERATOR
from nas.operators.gala import GALA_OPERATOR
from nas.operators.gating import refined_sum
from nas.operators.gc import GC, SNL
from nas.operators.ge import GE_OPERATOR
from nas.operators.non_local import NON_LOCAL
from nas.operators.plain import NONE, PLAIN
from nas.operators.se import NO_SQUEEZE, SE_OPERATOR
from nas.operators.shown import Attention, ChannelGates, Maps, Shown, SpatialGates
from search_spaces import Site, UserFacingError
from search_spaces.options import installed

__all__ = [
    "OPERATORS",
    "Attention",
    "ChannelGates",
    "Cost",
    "Maps",
    "Operator",
    "PluginError",
    "Replaced",
    "Resolved",
    "Shown",
    "SpatialGates",
    "conv",
    "conv_cost",
    "norm_cost",
    "operators",
    "refined_sum",
]

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "plain": PLAIN,
        "none": NONE,
        "se": SE_OPERATOR,
        "no_squeeze": NO_SQUEEZE,
        "ge": GE_OPERATOR,
        "bam": BAM_OPERATOR,
        "cbam": CBAM_OPERATOR,
        "gala": GALA_OPERATOR,
        "gc": GC,
        "snl": SNL,
        "non_local": NON_LOCAL,
        "aa": AA,
        "aw": AW,
    }
)
"""Option -> operator, for every option in `search_spaces.OPTIONS`."""


@functools.cache
def operators() -> Mapping[str, Operator]:
    """`OPERATORS` and the operators of installed plug-ins, for every option in `search_spaces.options`.

    If a plug-in's operator cannot be loaded, its entry raises `PluginError` when it is built or counted.
    """
    ours = dict(OPERATORS)
    return MappingProxyType(
        ours | {name: _imported(name, plugin.operator) for name, plugin in installed().usable.items()}
    )


class PluginError(UserFacingError):
    """An architecture has an operator of a plug-in that cannot be loaded."""


def _imported(name: str, operator: object) -> Operator:
    """An `Operator`, or the one that ``"module:attribute"`` names."""
    why = f"{operator!r} must be a nas.operators.Operator or 'module:attribute'"
    if isinstance(operator, str):
        module, _, attribute = operator.partition(":")
        try:
            operator = getattr(import_module(module), attribute, operator)
        except Exception as error:  # a plug-in is foreign code and may raise anything
            why = f"importing {module} raised {type(error).__name__}: {error}"
    if isinstance(operator, Operator):
        return operator

    def refuse(_site: Site, _resolved: Resolved) -> NoReturn:
        raise PluginError(f"the operator of {name!r}, from a plug-in, cannot be used: {why}; correct or uninstall it")

    return Operator(refuse, refuse)
