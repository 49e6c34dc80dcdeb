"""Every operator passes every check of `nas.operators.testing`."""

from dataclasses import replace

import pytest

from nas.operators import OPERATORS
from nas.operators.testing import CHECKS
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site

_MAP = Site("refine", 16, 16, size=5)
_CONV = Site("conv", 6, 16, size=5, kernel_size=3)
_STRIDED = Site("conv", 6, 16, size=5, kernel_size=3, stride=2)
_DEEP = Site("conv", 20, 16, size=3, kernel_size=3)  # more channels than positions
_BIASED = Site("conv", 6, 16, size=5, kernel_size=3, bias=True)
_POINTWISE = Site("conv", 6, 16, size=5)
_GROUPED = Site("conv", 8, 16, size=5, kernel_size=3, groups=4)
_AA = {"kappa": 0.5, "upsilon": 0.5, "heads": 2, "multiple": 4, "min_key_width": 3}
_AW = {"aw_reduction": 4}

CASES = {
    "plain": ("plain", {}, _STRIDED),
    "plain grouped, biased": ("plain", {}, Site("conv", 8, 16, size=5, kernel_size=3, groups=4, bias=True)),
    "none": ("none", {}, _MAP),
    "se": ("se", {"reduction": 4}, _MAP),
    "se without biases": ("se", {"reduction": 4, "bias": False}, _MAP),
    "no_squeeze": ("no_squeeze", {"reduction": 4}, _MAP),
    "ge theta_minus": ("ge", {"variant": "theta_minus"}, _MAP),
    "ge theta": ("ge", {"variant": "theta"}, _MAP),
    "ge theta_plus": ("ge", {"variant": "theta_plus", "reduction": 4}, _MAP),
    "bam": ("bam", {"reduction": 4, "dilation": 2}, _MAP),
    "bam as code": ("bam", {"reduction": 4, "dilation": 2, "form": "code"}, _MAP),
    "cbam": ("cbam", {"reduction": 4}, _MAP),
    "cbam max_pool": ("cbam", {"reduction": 4, "variant": "max_pool"}, _MAP),
    "cbam spatial": ("cbam", {"reduction": 4, "variant": "spatial"}, _MAP),
    "gala": ("gala", {"reduction": 4}, _MAP),
    "gc": ("gc", {"reduction": 4}, _MAP),
    "snl": ("snl", {}, _MAP),
    "non_local gaussian": ("non_local", {"pairwise": "gaussian"}, _MAP),
    "non_local": ("non_local", {}, _MAP),
    "non_local sub-sampled": ("non_local", {"sub_sample": True}, _MAP),
    "non_local dot_product": ("non_local", {"pairwise": "dot_product"}, _MAP),
    "non_local dot_product, few positions": ("non_local", {"pairwise": "dot_product"}, Site("refine", 16, 16, size=2)),
    "non_local concatenation": ("non_local", {"pairwise": "concatenation", "sub_sample": True}, _MAP),
    "aa": ("aa", _AA, _CONV),
    "aa without positions": ("aa", _AA | {"position": "none"}, _CONV),
    "aa sine": ("aa", _AA | {"position": "sine"}, _CONV),
    "aa coordconv": ("aa", _AA | {"position": "coordconv"}, _CONV),
    "aa strided": ("aa", _AA, _STRIDED),
    "aa strided, downsampled twice": ("aa", _AA | {"downsample": True, "downsample_steps": 2}, _STRIDED),
    "aa full": ("aa", _AA | {"upsilon": 1.0}, _CONV),
    "aa pointwise, biased": ("aa", _AA, Site("conv", 6, 16, size=5, bias=True)),
    "aa grouped": ("aa", _AA, _GROUPED),
    "aa wide map": ("aa", _AA, Site("conv", 3, 16, size=17)),
    "aa 3x3 queries, aw conv": ("aa", _AA | _AW | {"qkv_kernel": 3, "aw": "conv"}, _BIASED),
    "aa aw qkv": ("aa", _AA | _AW | {"aw": "qkv"}, _CONV),
    "aa aw projection": ("aa", _AA | _AW | {"aw": "projection"}, _CONV),
    "aw kernels": ("aw", {"reduction": 4}, _CONV),
    "aw maps": ("aw", {"reduction": 4}, _DEEP),
    "aw strided, biased": ("aw", {"reduction": 4}, Site("conv", 6, 16, size=5, kernel_size=3, stride=2, bias=True)),
    "aw pointwise": ("aw", {"reduction": 4}, _POINTWISE),
}

# One pixel, where a map and its mean have the same shape.
CASES |= {
    f"{case}, one pixel": (name, params, replace(site, size=1))
    for case, (name, params, site) in CASES.items()
    if site.size == 5 and not {"sub_sample", "downsample"} & params.keys()  # which halve the map
}

# Compiling and exporting take seconds each: one case for every path through the code.
_SLOW = {"compile", "export"}
_TRACED = {
    "se", "ge theta_plus", "bam", "cbam", "gala", "gc", "non_local", "non_local dot_product", "aa",
    "aa strided, downsampled twice", "aa coordconv", "aw kernels", "aw maps", "aw pointwise",
}  # fmt: skip


@pytest.mark.parametrize(
    ("case", "check"), [(case, check) for case in CASES for check in CHECKS if check not in _SLOW or case in _TRACED]
)
def test_contract(case: str, check: str) -> None:
    name, params, site = CASES[case]
    CHECKS[check](OPERATORS[name], site, resolve(OPTIONS[name], params, site))


def test_every_operator_has_a_case() -> None:
    assert {name for name, _, _ in CASES.values()} == set(OPERATORS)
