"""Attention operators: one file a paper, and the table that names them."""

from collections.abc import Mapping
from types import MappingProxyType

from nas.operators.aa import AA
from nas.operators.aw import AW
from nas.operators.base import Cost, Operator, Resolved, conv, conv_cost, norm_cost
from nas.operators.cbam import CBAM_OPERATOR
from nas.operators.plain import NONE, PLAIN
from nas.operators.se import SE_OPERATOR

__all__ = ["OPERATORS", "Cost", "Operator", "Resolved", "conv", "conv_cost", "norm_cost"]

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "plain": PLAIN,
        "none": NONE,
        "se": SE_OPERATOR,
        "cbam": CBAM_OPERATOR,
        "aa": AA,
        "aw": AW,
    }
)
"""Option -> operator: the half of `search_spaces.OPTIONS` that needs torch."""
