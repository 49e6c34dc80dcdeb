"""Tests the values that options resolve to, and those that they refuse."""

import pytest

from search_spaces.options import OPTIONS, Param, resolve
from search_spaces.sites import Site, Value

MAP = Site("refine", 64, 64, size=8)


def conv(filters: int, size: int = 14, **rest: int) -> Site:
    return Site("conv", filters, filters, size, **({"kernel_size": 3} | rest))


@pytest.mark.parametrize(
    ("filters", "params", "d_k", "d_v"),
    [
        # AA-ResNet-50: "d_k = 160, d_v = 8, 24, 48"
        (128, {}, 160, 8),
        (256, {}, 160, 24),
        (512, {}, 160, 48),
        # kappa = upsilon = 0.25, and full attention
        (512, {"kappa": 0.25, "upsilon": 0.25}, 160, 128),
        (512, {"kappa": 1.0, "upsilon": 1.0}, 512, 512),
        # RetinaNet's row: keys rounded up, at least 5 a head
        (128, {"key_rounding": "up", "min_key_width": 5}, 40, 8),
        (256, {"key_rounding": "up", "min_key_width": 5}, 56, 24),
        (512, {"key_rounding": "up", "min_key_width": 5}, 104, 48),
        # MnasNet: four heads, multiples of four, at least 4 key dimensions a head
        (72, {"kappa": 0.1, "upsilon": 0.05, "heads": 4, "multiple": 4, "min_key_width": 4}, 16, 4),
        (960, {"kappa": 0.1, "upsilon": 0.05, "heads": 4, "multiple": 4, "min_key_width": 4}, 96, 48),
        # a product of binary floats just under a whole number (0.7 * 40 = 27.999999999999996) is that number
        (40, {"kappa": 0.7, "upsilon": 0.7, "heads": 4, "multiple": 4, "min_key_width": 1}, 28, 28),
    ],
)
def test_aa_widths(filters: int, params: dict[str, Value], d_k: int, d_v: int) -> None:
    resolved = resolve(OPTIONS["aa"], params, conv(filters))
    assert (resolved["d_k"], resolved["d_v"]) == (d_k, d_v)


def test_choices_that_make_equal_networks_resolve_alike() -> None:
    aa, ge = OPTIONS["aa"], OPTIONS["ge"]
    site = conv(128)
    assert resolve(aa, {"kappa": 0.1}, site) == resolve(aa, {"kappa": 0.2}, site)
    assert resolve(aa, {"downsample_steps": 3}, site) == resolve(aa, {}, site)
    assert resolve(aa, {"aw_reduction": 2}, site) == resolve(aa, {}, site)
    assert resolve(ge, {"variant": "theta", "reduction": 2}, MAP) == resolve(ge, {"variant": "theta"}, MAP)
    assert resolve(OPTIONS["se"], {"reduction": 33}, MAP) == resolve(OPTIONS["se"], {"reduction": 64}, MAP)


@pytest.mark.parametrize("name", OPTIONS)
def test_defaults_are_allowed_and_resolve_to_plain_values(name: str) -> None:
    option = OPTIONS[name]
    for param in option.params.values():
        assert param.allows(param.default), param
        assert param.doc
    for slot in option.slots:
        resolved = resolve(option, {}, Site(slot, 64, 64, size=8))
        assert all(type(value) in {bool, int, str} for value in resolved.values()), resolved


@pytest.mark.parametrize(
    ("name", "params", "site", "message"),
    [
        ("se", {"reduction": 65}, MAP, "reduction 65 is larger than the 64 channels: choose at most 64"),
        ("non_local", {"reduction": 65}, MAP, "reduction 65 is larger than the 64 channels: choose at most 64"),
        ("non_local", {"sub_sample": True}, Site("refine", 8, 8, size=1), "1x1: set sub_sample to false here"),
        ("se", {"reduction": 0}, MAP, "se: reduction is 0, but must be an integer at least 1 and at most 4096"),
        ("se", {"reduction": 16.0}, MAP, "se: reduction is 16.0, but must be an integer"),
        ("se", {"reduction": True}, MAP, "se: reduction is True, but must be an integer"),
        ("se", {"bias": 1}, MAP, "se: bias is 1, but must be true or false"),
        ("se", {"ratio": 4}, MAP, "se has no parameter 'ratio': it has reduction, bias"),
        ("snl", {"reduction": 4}, MAP, "snl has no parameter 'reduction': it has none"),
        ("se", {}, conv(64), "se does not fit slot conv: it fits after, refine"),
        ("cbam", {"variant": "all"}, MAP, "cbam: variant is 'all', but must be one of full, max_pool, spatial"),
        ("aa", {"kappa": 0}, conv(64), "aa: kappa is 0, but must be a number above 0 and at most 1"),
        ("aa", {"upsilon": 1.5}, conv(64), "aa: upsilon is 1.5, but must be a number above 0 and at most 1"),
        ("aa", {"heads": 3}, conv(64), "3 heads do not divide d_v = 8 (upsilon 0.1 of 64 filters"),
        ("aa", {"heads": 6, "kappa": 1.0}, conv(256), "6 heads do not divide d_k = 256 (kappa 1.0 of 256 filters"),
        ("aa", {}, conv(4), "d_v = 8 is more than the 4 filters of the convolution: set multiple to 4 or less"),
        ("aa", {}, conv(128, groups=32), "128 - 8 = 120 filters, which its 32 groups do not divide"),
        ("aa", {"downsample": True}, conv(64, size=1), "the map is 1x1 and a map of one pixel cannot be pooled"),
        ("aa", {"downsample": True, "downsample_steps": 3}, conv(64, size=4), "pools 3 times, but the map is 4x4"),
        ("aa", {"aw": "conv", "upsilon": 1.0}, conv(64), "upsilon 1.0 leaves 0 filters"),
        ("aa", {"aw": "conv"}, conv(256, groups=8), "the convolution has 8 groups"),
        ("aa", {"aw": "projection"}, conv(64), "aw_reduction 16 is larger than the 8 filters of the projection"),
        ("aw", {}, conv(128, groups=32), "has 32 groups: place it on a convolution with groups 1"),
        ("aw", {"reduction": 32}, conv(16), "reduction 32 is larger than the 16 channels: choose at most 16"),
    ],
)
def test_refused_with_both_values_and_the_remedy(name: str, params: dict[str, Value], site: Site, message: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is compared below, whole
        resolve(OPTIONS[name], params, site)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_strided_convolution_downsamples_its_output() -> None:
    assert resolve(OPTIONS["aa"], {"downsample": True}, conv(64, size=3, stride=2))["poolings"] == 1
    with pytest.raises(ValueError, match="the map is 1x1"):
        resolve(OPTIONS["aa"], {"downsample": True}, conv(64, size=2, stride=2))


def test_param_says_what_it_allows() -> None:
    assert Param(True).allowed == "true or false"
    assert Param("a", choices=("a", "b")).allowed == "one of a, b"
    assert Param(0.5, low=0, high=1, above_low=True).allowed == "a number above 0 and at most 1"
    assert Param(3, low=1).allowed == "an integer at least 1"
    assert Param(0.5).allowed == "a number"
    assert Param(0.5).allows(2)
    assert not Param(1).allows(2.0)
