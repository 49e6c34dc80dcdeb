from typing import Any

import pytest
from pydantic import ValidationError

from search_spaces import FAMILIES, SLOTS
from search_spaces.sites import Site
from search_spaces.skeletons import MnasNet, ResNet, Skeleton, WideResNet

EXAMPLES: dict[str, dict[str, Any]] = {
    "resnet-8": {"family": "resnet", "depth": 8},
    "resnet-29": {"family": "resnet", "depth": 29, "groups": 2, "width_per_group": 8},
    "resnet-34": {"family": "resnet", "depth": 34, "widen": 1.5},
    "resnet-50": {"family": "resnet", "depth": 50, "stride_on": "first"},
    "wide_resnet": {"family": "wide_resnet", "depth": 16, "widen": 2},
    "preresnet": {"family": "preresnet", "depth": 11},
    "mnasnet": {"family": "mnasnet"},
    "mobilenet_v1": {"family": "mobilenet_v1", "widen": 0.25},
    "vgg16": {"family": "vgg16"},
    "bn_inception": {"family": "bn_inception"},
    "inception_resnet_v2": {"family": "inception_resnet_v2"},
}


def skeleton(family: str, image_size: int = 32, num_classes: int = 10, **fields: object) -> Skeleton:
    return FAMILIES[family].model_validate(
        {"family": family, "image_size": image_size, "num_classes": num_classes, **fields}
    )


def test_every_family_has_an_example() -> None:
    assert {fields["family"] for fields in EXAMPLES.values()} == set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_names_each_family_as_it_names_itself(family: str) -> None:
    assert FAMILIES[family].model_fields["family"].default == family


@pytest.mark.parametrize("image_size", [96, 101])
@pytest.mark.parametrize("fields", EXAMPLES.values(), ids=EXAMPLES)
def test_blocks_are_named_by_stage_and_sites_agree(fields: dict[str, Any], image_size: int) -> None:
    blocks = skeleton(image_size=image_size, **fields).blocks()
    names = [block.name for block in blocks]
    assert len(set(names)) == len(names)
    stages = list(dict.fromkeys(block.stage for block in blocks))
    assert [block.stage for block in blocks] == sorted((block.stage for block in blocks), key=stages.index)
    for block in blocks:
        stage, _, member = block.name.partition(".")
        assert stage == block.stage
        assert member
        assert "." not in member
        assert set(block.sites) <= set(SLOTS)
        assert {"refine", "after"} <= set(block.sites)
        for slot, site in block.sites.items():
            assert site.slot == slot
            assert site.in_channels % site.groups == site.out_channels % site.groups == 0
            if slot in ("refine", "after"):
                assert site == Site(slot, site.out_channels, site.out_channels, block.sites["refine"].size)


@pytest.mark.parametrize(
    ("depth", "stages", "is_basic"),
    [
        (8, [1, 1, 1], True),
        (20, [3, 3, 3], True),
        (56, [9, 9, 9], True),
        (11, [1, 1, 1], False),
        (29, [3, 3, 3], False),
        (18, [2, 2, 2, 2], True),
        (34, [3, 4, 6, 3], True),
        (50, [3, 4, 6, 3], False),
        (101, [3, 4, 23, 3], False),
        (152, [3, 8, 36, 3], False),
    ],
)
def test_resnet_depths(depth: int, stages: list[int], is_basic: bool) -> None:
    net = skeleton("resnet", depth=depth)
    names = [block.stage for block in net.blocks()]
    assert [names.count(f"layer{index + 1}") for index in range(len(stages))] == stages
    assert len(names) == sum(stages)
    assert all(("conv2" in block.sites) == is_basic for block in net.blocks())


def test_resnet_follows_its_depth() -> None:
    small, large = skeleton("resnet", depth=20), skeleton("resnet", depth=18)
    assert isinstance(small, ResNet)
    assert isinstance(large, ResNet)
    assert (small.stem, small.width, small.stem_size) == ("cifar", 16, 32)
    assert (large.stem, large.width, large.stem_size) == ("imagenet", 64, 8)
    explicit = skeleton("resnet", depth=18, stem="cifar", width=8)
    assert isinstance(explicit, ResNet)
    assert (explicit.stem, explicit.width, explicit.stem_size) == ("cifar", 8, 32)


def test_equal_resnets_are_written_alike() -> None:
    assert skeleton("resnet", depth=20) == skeleton("resnet", depth=20, stem="cifar", width=16)
    assert skeleton("resnet", depth=18, stride_on="first") == skeleton("resnet", depth=18)
    assert skeleton("resnet", depth=50, stride_on="first") != skeleton("resnet", depth=50)
    assert skeleton("resnet", depth=50, shortcut="stage") == skeleton("resnet", depth=50)
    assert skeleton("resnet", depth=18, shortcut="stage") != skeleton("resnet", depth=18)
    # Four times a quarter of the width is the width, so only here a bottleneck's first stage keeps the shape.
    quarter = skeleton("resnet", depth=50, shortcut="stage", widen=0.25)
    assert quarter != skeleton("resnet", depth=50, widen=0.25)


def test_a_strided_bottleneck_strides_where_it_is_told() -> None:
    def conv_of(stride_on: str) -> Site:
        blocks = skeleton("resnet", image_size=224, depth=50, stride_on=stride_on).blocks()
        return next(block for block in blocks if block.name == "layer2.0").sites["conv"]

    assert conv_of("3x3") == Site("conv", 128, 128, 56, kernel_size=3, stride=2)
    assert conv_of("first") == Site("conv", 128, 128, 28, kernel_size=3)


def test_grouped_and_widened_sites() -> None:
    grouped = skeleton("resnet", image_size=224, depth=50, groups=32, width_per_group=4).blocks()
    assert grouped[0].sites["conv"] == Site("conv", 128, 128, 56, kernel_size=3, groups=32)
    widened = skeleton("resnet", image_size=224, depth=18, widen=1.5).blocks()
    assert widened[0].sites["conv"] == Site("conv", 64, 96, 56, kernel_size=3)
    assert widened[-1].sites["refine"] == Site("refine", 768, 768, 7)
    biased = skeleton("wide_resnet", depth=28, widen=10, bias=True).blocks()
    assert biased[4].sites["conv"] == Site("conv", 160, 320, 32, kernel_size=3, stride=2, bias=True)
    assert biased[4].sites["conv2"] == Site("conv2", 320, 320, 16, kernel_size=3, bias=True)


@pytest.mark.parametrize(
    ("widen", "widths"),
    [
        (0.75, [24, 16, 24, 32, 64, 88, 120, 240]),
        (1.0, [32, 16, 24, 40, 80, 112, 160, 320]),
        (1.25, [40, 24, 32, 48, 104, 144, 200, 400]),
        (1.4, [48, 24, 32, 56, 112, 160, 224, 448]),
    ],
)
def test_mnasnet_widths_are_multiples_of_8(widen: float, widths: list[int]) -> None:
    net = skeleton("mnasnet", image_size=224, widen=widen)
    assert isinstance(net, MnasNet)
    stages = {unit.stage: unit.out_channels for unit in net.units()}
    assert [net.stem_channels, *stages.values()] == widths


def test_mnasnet_expands_but_in_layer1_and_squeezes_where_a1_does() -> None:
    net = skeleton("mnasnet", image_size=224)
    assert [block.name for block in net.blocks() if "conv" not in block.sites] == ["layer1.0"]
    assert len([block for block in net.blocks() if block.stage >= "layer3"]) == 13  # those that the AA paper augments

    def squeezing(se: str) -> set[str]:
        other = skeleton("mnasnet", se=se)
        assert isinstance(other, MnasNet)
        return {unit.stage for unit in other.units() if unit.squeezed}

    assert squeezing("a1") == {"layer3", "layer5", "layer6"}
    assert squeezing("none") == set()
    assert squeezing("every") == {f"layer{stage}" for stage in range(2, 8)}


def test_mobilenet_refines_both_halves_and_replaces_the_pointwise() -> None:
    blocks = skeleton("mobilenet_v1", image_size=224).blocks()
    assert len(blocks) == 26
    assert [block.name for block in blocks if "conv" in block.sites] == [
        block.name for block in blocks if ".pw" in block.name
    ]
    by_name = {block.name: block for block in blocks}
    assert by_name["layer2.dw0"].sites["refine"] == Site("refine", 64, 64, 56)
    assert by_name["layer2.pw0"].sites["conv"] == Site("conv", 64, 128, 56)


def test_inception_channels() -> None:
    blocks = skeleton("bn_inception", image_size=224).blocks()
    outputs = [(block.sites["refine"].out_channels, block.sites["refine"].size) for block in blocks]
    assert outputs == [(256, 28), (320, 28), (576, 14), *[(576, 14)] * 2, *[(608, 14)] * 2, (1056, 7), *[(1024, 7)] * 2]


def test_inception_resnet_loses_a_pixel_where_it_does_not_pad() -> None:
    assert [block.sites["refine"].size for block in skeleton("inception_resnet_v2", image_size=299).blocks()] == [
        *[35] * 10,
        *[17] * 20,
        *[8] * 10,
    ]
    assert skeleton("inception_resnet_v2", image_size=75).blocks()[-1].sites["refine"].size == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"family": "resnet", "depth": 21}, "no ResNet has depth 21; allowed: 18, 34, 50, 101, 152"),
        ({"family": "resnet", "depth": 2}, "no ResNet has depth 2"),
        ({"family": "resnet", "depth": 18, "groups": 2}, "groups=2, width_per_group=64 need bottlenecks"),
        ({"family": "resnet", "depth": 50, "widen": 0.001}, "leave no channels in layer1"),
        ({"family": "resnet", "depth": "50"}, "valid integer"),
        ({"family": "resnet", "depth": 50, "width": 0}, "greater than or equal to 1"),
        ({"family": "resnet", "depth": 50, "stem": "none"}, "'imagenet' or 'cifar'"),
        ({"family": "resnet", "depth": 50, "widht": 64}, "Extra inputs"),
        (
            {"family": "wide_resnet", "depth": 29, "widen": 10},
            "no Wide-ResNet has depth 29; allowed: 6n\\+4, at least 10",
        ),
        ({"family": "preresnet", "depth": 112}, "no pre-activation ResNet has depth 112; allowed: 9n\\+2, at least 11"),
        ({"family": "mnasnet", "widen": 0.0}, "greater than 0"),
        ({"family": "mnasnet", "num_classes": 1}, "greater than or equal to 2"),
        ({"family": "inception_resnet_v2", "image_size": 74}, "greater than or equal to 75"),
    ],
)
def test_a_wrong_field_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        skeleton(**fields)


def test_skeletons_are_frozen_values() -> None:
    net = skeleton("wide_resnet", depth=10, widen=1)
    assert isinstance(net, WideResNet)
    assert hash(net) == hash(skeleton("wide_resnet", depth=10, widen=1))
    with pytest.raises(ValidationError):
        net.widen = 2  # type: ignore[misc]
    assert WideResNet.model_validate(net.model_dump(mode="json")) == net
