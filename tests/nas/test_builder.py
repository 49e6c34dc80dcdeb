from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas import build_model
from search_spaces import FAMILIES, Architecture, Skeleton, Slot, choose

PLACED = {
    "layer1.0": {"conv": choose("aw"), "refine": choose("se", {"reduction": 4})},
    "layer3.0": {
        "conv": choose("aa", {"heads": 4, "min_key_width": 4, "multiple": 4}),
        "conv2": choose("aw"),
        "refine": choose("cbam", {"reduction": 4}),
        "after": choose("se", {"reduction": 8}),
    },
}


def resnet8(placements: dict[str, Any] | None = None, **fields: object) -> Architecture:
    skeleton = FAMILIES["resnet"].model_validate({"depth": 8, "image_size": 16, "num_classes": 5, **fields})
    return Architecture(skeleton, placements or {})


def test_every_slot_holds_what_was_placed() -> None:
    model = build_model(resnet8(PLACED))
    blocks = dict(model.stages.named_children())
    first, second, third = (blocks[name][0] for name in ("layer1", "layer2", "layer3"))
    names = {
        "first": [type(module).__name__ for module in (first.branch[0], first.branch[3], first.refine, first.after)],
        "second": [
            type(module).__name__ for module in (second.branch[0], second.branch[3], second.refine, second.after)
        ],
        "third": [type(module).__name__ for module in (third.branch[0], third.branch[3], third.refine, third.after)],
    }
    assert names == {
        "first": ["AWConv2d", "Conv2d", "SE", "Identity"],
        "second": ["Conv2d", "Conv2d", "Identity", "Identity"],
        "third": ["AAConv2d", "AWConv2d", "CBAM", "SE"],
    }


def test_blocks_are_submodules_by_name() -> None:
    architecture = resnet8(PLACED)
    model = build_model(architecture)
    for block in architecture.blocks:
        assert isinstance(model.get_submodule(f"stages.{block.name}"), nn.Module)


def test_a_seed_makes_a_network() -> None:
    def built(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return build_model(resnet8(PLACED)).state_dict()

    one, again, other = built(1), built(1), built(2)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_meta_holds_no_values_and_real_devices_do() -> None:
    meta, real = build_model(resnet8(PLACED), device="meta"), build_model(resnet8(PLACED), device="cpu")
    assert {tensor.device.type for tensor in meta.state_dict().values()} == {"meta"}
    assert {tensor.device.type for tensor in real.state_dict().values()} == {"cpu"}
    shapes = [{name: tensor.shape for name, tensor in model.state_dict().items()} for model in (meta, real)]
    assert shapes[0] == shapes[1]
    # Building on meta must not leave initialisation switched off.
    assert torch.nn.init.normal_(torch.zeros(100)).std() > 0.5


def test_features_are_the_stages_and_forward_goes_through_them() -> None:
    model = build_model(resnet8(PLACED)).eval()
    images = torch.randn(2, 3, 16, 16)
    features = model.features(images)
    assert {name: tuple(x.shape) for name, x in features.items()} == {
        "layer1": (2, 16, 16, 16),
        "layer2": (2, 32, 8, 8),
        "layer3": (2, 64, 4, 4),
    }
    torch.testing.assert_close(model.head(features["layer3"]), model(images))


@pytest.mark.parametrize(("channels", "size"), [(1, 16), (4, 23)])
def test_other_channels_and_sizes(channels: int, size: int) -> None:
    model = build_model(resnet8(PLACED, in_channels=channels))
    assert model(torch.randn(2, channels, size, size + 3)).shape == (2, 5)


def test_all_slots_are_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas import skeletons

    asked: list[tuple[str, Slot]] = []
    family = skeletons.SKELETONS["resnet"]

    def build(skeleton: Skeleton, place: skeletons.Place) -> skeletons.Network:
        def spy(block: str, slot: Slot) -> nn.Module:
            asked.append((block, slot))
            return place(block, slot)

        return family.build(skeleton, spy)

    monkeypatch.setattr("nas.builder.SKELETONS", {"resnet": skeletons.Family(build, family.cost)})
    architecture = resnet8()
    build_model(architecture, device="meta")
    assert sorted(asked) == sorted((block.name, slot) for block in architecture.blocks for slot in block.sites)
