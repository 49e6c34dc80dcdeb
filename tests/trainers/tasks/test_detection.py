from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nas import build_model, paper_tables
from search_spaces import FAMILIES, Architecture, choose, load_architecture
from trainers.tasks.detection.builders import DETECTORS, LevelNormHead, Maps, retinanet, strided_blocks

AA = choose("aa", {"heads": 4, "min_key_width": 4, "multiple": 4})
SMALL: dict[str, dict[str, Any]] = {
    "resnet": {"depth": 18, "width": 8},
    "mnasnet": {"widen": 0.25},
    "mobilenet_v1": {"widen": 0.25},
    "vgg16": {"hidden": 8},
    "bn_inception": {},
}
"""Every family whose maps reach stride 8."""


def small(family: str, image_size: int = 64, **fields: object) -> Architecture:
    skeleton = FAMILIES[family].model_validate({"image_size": image_size, "num_classes": 2, **SMALL[family], **fields})
    return Architecture(skeleton)


def augmented(image_size: int = 64) -> Architecture:
    return Architecture(small("resnet", image_size).skeleton, {"layer3.1": {"conv": AA, "refine": choose("se")}})


def targets(label: int = 1) -> list[dict[str, Tensor]]:
    return [
        {"boxes": torch.tensor([[10.0, 12.0, 60.0, 70.0]]), "labels": torch.tensor([label])},
        {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.int64)},
    ]


def options(detector: str, size: int = 96) -> dict[str, int]:
    """Small images and few proposals, because these tests only check how the parts are connected."""
    few = {"rpn_post_nms_top_n_train": 20, "rpn_post_nms_top_n_test": 20, "box_batch_size_per_image": 8}
    sizes = {"min_size": size, "max_size": 2 * size}
    return {"retinanet": sizes, "faster_rcnn": sizes | few, "ssd300": {}}[detector]


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("resnet", {4: "layer1.1", 8: "layer2.1", 16: "layer3.1", 32: "layer4.1"}),
        ("mnasnet", {2: "layer1.0", 4: "layer2.1", 8: "layer3.2", 16: "layer5.1", 32: "layer7.0"}),
        ("mobilenet_v1", {2: "layer1.pw0", 4: "layer2.pw1", 8: "layer3.pw1", 16: "layer4.pw5", 32: "layer5.pw1"}),
        ("vgg16", {1: "layer1.1", 2: "layer2.1", 4: "layer3.2", 8: "layer4.2", 16: "layer5.2"}),
        ("bn_inception", {8: "layer3.1", 16: "layer4.3", 32: "layer5.1"}),
    ],
)
@pytest.mark.parametrize("image_size", [1, 33, 40, 47, 64, 100, 224])
def test_the_last_block_of_every_stride(family: str, image_size: int, expected: dict[int, str]) -> None:
    assert {stride: name for stride, (name, _) in strided_blocks(small(family, image_size)).items()} == expected


def test_maps_are_the_networks() -> None:
    architecture = small("resnet")
    network = build_model(architecture).eval()
    maps = Maps(architecture, network, (8, 16, 32), what="test")
    images = torch.randn(2, 3, 70, 64)
    features = network.features(images)
    for found, stage in zip(maps(images), ("layer2", "layer3", "layer4"), strict=True):
        torch.testing.assert_close(found, features[stage])


@pytest.mark.parametrize("detector", DETECTORS)
def test_attention_in_the_backbone_learns_and_boxes_come_out(detector: str) -> None:
    torch.manual_seed(0)
    model = DETECTORS[detector](augmented(), 3, **options(detector))
    images = [torch.rand(3, 80, 96), torch.rand(3, 96, 72)]  # of other sizes than the skeleton's 64, and not square
    losses = model(images, targets())
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
    with torch.no_grad():
        found = model.eval()(images)
    assert len(found) == 2
    for image, each in zip(images, found, strict=True):
        assert each["boxes"].shape == (len(each["scores"]), 4)
        assert len(each["labels"]) == len(each["scores"])
        assert (each["boxes"] >= 0).all()
        assert (each["boxes"][:, [0, 2]] <= image.shape[2] + 1e-3).all()
        assert (each["boxes"][:, [1, 3]] <= image.shape[1] + 1e-3).all()


@pytest.mark.parametrize("family", SMALL)
@pytest.mark.parametrize("detector", DETECTORS)
def test_every_family_carries_every_detector(detector: str, family: str) -> None:
    model = DETECTORS[detector](small(family), 3, **options(detector, 64)).eval()
    with torch.no_grad():
        (found,) = model([torch.rand(3, 64, 64)])
    assert set(found) == {"boxes", "labels", "scores"}


def test_one_channel() -> None:
    model = retinanet(small("resnet", in_channels=1), 3, min_size=64, max_size=64).eval()
    with torch.no_grad():
        assert len(model([torch.rand(1, 64, 64)])) == 1


def test_ssd_has_the_papers_default_boxes() -> None:
    model = DETECTORS["ssd300"](small("vgg16"), 3).eval()
    with torch.no_grad():
        maps = model.backbone(torch.rand(1, 3, 300, 300))
    assert [tuple(x.shape[2:]) for x in maps.values()] == [(size, size) for size in (38, 19, 10, 5, 3, 1)]
    per_place = model.anchor_generator.num_anchors_per_location()
    assert sum(x.shape[2] * x.shape[3] * count for x, count in zip(maps.values(), per_place, strict=True)) == 8732


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_skeleton_without_coarse_maps_is_refused(detector: str) -> None:
    skeleton = FAMILIES["wide_resnet"].model_validate({"depth": 10, "widen": 1, "image_size": 32, "num_classes": 10})
    with pytest.raises(ValueError, match="needs a map of stride 8, and this wide_resnet has maps of stride 1, 2, 4"):
        DETECTORS[detector](Architecture(skeleton), 3)


def test_a_given_network_is_used() -> None:
    architecture = small("resnet")
    network = build_model(architecture)
    model = retinanet(architecture, 3, network=network)
    assert model.backbone.maps.stages is network.stages
    assert "backbone.maps.stages.layer2.0.branch.0.weight" in model.state_dict()


def test_each_level_has_its_norms_and_levels_share_convolutions() -> None:
    torch.manual_seed(0)
    model = retinanet(small("resnet"), 3, norm=True, min_size=64, max_size=64)
    head = model.head
    assert isinstance(head, LevelNormHead)
    keys = [name for name, _ in head.named_parameters(remove_duplicate=False)]
    assert len(keys) == len(set(keys)) == len(list(head.parameters()))  # nothing is registered twice
    level = torch.randn(2, 256, 4, 4)
    head.eval()
    alike = head([level] * 5)["cls_logits"].unflatten(1, (5, -1))
    torch.testing.assert_close(alike[:, 0], alike[:, 4])
    with torch.no_grad():
        norms = [module for module in head.classify.modules() if isinstance(module, nn.BatchNorm2d)]
        assert len(norms) == 5 * 4
        norms[-1].bias.add_(1)  # of the last level
    changed = head([level] * 5)["cls_logits"].unflatten(1, (5, -1))
    torch.testing.assert_close(changed[:, 0], alike[:, 0])
    assert not torch.allclose(changed[:, 4], alike[:, 4])
    losses = model.train()([torch.rand(3, 64, 64)] * 2, targets())
    assert all(torch.isfinite(loss) for loss in losses.values())


@pytest.mark.parametrize(
    "row", [row for row in paper_tables.rows("AA T5") if "101" not in row.row], ids=lambda row: row.row
)
def test_table_5_of_the_aa_paper(row: paper_tables.PaperRow) -> None:
    """The detector has the parameters that the table's rule counts: 90 classes, six anchors, BN."""
    model = retinanet(load_architecture(row.zoo), 90, scales=2, norm=True)
    assert sum(parameter.numel() for parameter in model.parameters()) == round(row.params_m * 1e6)


@pytest.mark.parametrize("detector", DETECTORS)
def test_a_detector_learns_an_image(detector: str) -> None:
    torch.manual_seed(0)
    image = torch.rand(3, 96, 96) * 0.2
    image[:, 12:70, 10:60] += 0.7
    model = DETECTORS[detector](small("resnet"), 3, **options(detector))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.005, momentum=0.9)
    totals = []
    for _ in range(8):
        loss = sum(model([image, image], [targets()[0], targets()[0]]).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert totals[-1] < 0.95 * totals[0], totals
