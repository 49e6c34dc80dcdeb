"""Attention operators: one file a paper, and the table that names them."""

import functools
from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType

from nas.operators.aa import AA
from nas.operators.aw import AW
from nas.operators.bam import BAM_OPERATOR
from nas.operators.base import Cost, Operator, Resolved, conv, conv_cost, norm_cost
from nas.operators.cbam import CBAM_OPERATOR
from nas.operators.gala import GALA_OPERATOR
from nas.operators.gating import refined_sum
from nas.operators.gc import GC, SNL
from nas.operators.ge import GE_OPERATOR
from nas.operators.non_local import NON_LOCAL
from nas.operators.plain import NONE, PLAIN
from nas.operators.se import NO_SQUEEZE, SE_OPERATOR
from search_spaces.options import plugins

__all__ = ["OPERATORS", "Cost", "Operator", "Resolved", "conv", "conv_cost", "norm_cost", "operators", "refined_sum"]

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
"""Option -> operator: the half of `search_spaces.OPTIONS` that needs torch."""


@functools.cache
def operators() -> Mapping[str, Operator]:
    """`OPERATORS` and the operators of installed plug-ins; the other half of `search_spaces.options`.

    Raises TypeError when a plug-in names something that is not an `Operator`.
    """
    return MappingProxyType(dict(OPERATORS) | {name: _imported(plugin.operator) for name, plugin in plugins().items()})


def _imported(operator: object) -> Operator:
    """An `Operator`, or the one that ``"module:attribute"`` names."""
    if isinstance(operator, str):
        module, _, attribute = operator.partition(":")
        operator = getattr(import_module(module), attribute, operator)
    if not isinstance(operator, Operator):
        raise TypeError(
            f"a plug-in's operator is {operator!r}: it must be a nas.operators.Operator or 'module:attribute'"
        )
    return operator
