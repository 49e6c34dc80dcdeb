"""The two options that leave the skeleton unchanged: its own convolution (``plain``), and the identity (``none``)."""

from torch import nn

from nas.operators.base import Cost, Operator, Resolved, conv, conv_cost
from search_spaces.sites import Site


def _build_plain(site: Site, _resolved: Resolved) -> nn.Module:
    return conv(site.in_channels, site.out_channels, site.kernel_size, site.stride, site.groups, site.bias)


def _plain_cost(site: Site, _resolved: Resolved) -> Cost:
    return conv_cost(site.in_channels, site.out_channels, site.kernel_size, site.out_size, site.groups, site.bias)


def _build_none(_site: Site, _resolved: Resolved) -> nn.Module:
    return nn.Identity()


def _none_cost(_site: Site, _resolved: Resolved) -> Cost:
    return Cost()


PLAIN = Operator(_build_plain, _plain_cost)
NONE = Operator(_build_none, _none_cost)
