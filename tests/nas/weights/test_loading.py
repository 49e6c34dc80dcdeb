"""What becomes of each tensor, and how differences are told."""

from importlib import import_module

import pytest
import torch
from torch import Tensor, nn

from nas import build_model
from nas.weights import Weights, WeightsError, load_weights, to_peer, to_torchvision
from search_spaces import Architecture, parse_architecture


def small(placements: str = "{}", **skeleton: object) -> Architecture:
    fields = {"family": "resnet", "depth": 8, "width": 8, "image_size": 16, "num_classes": 5} | skeleton
    return parse_architecture(f"{{schema: 1, skeleton: {fields}, placements: {placements}}}", "test")


SE = "{'layer[12].*': {refine: {se: {reduction: 2}}}}"


def state_of(architecture: Architecture, seed: int = 1) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    state: dict[str, Tensor] = build_model(architecture).state_dict()
    return state


def refused(architecture: Architecture, weights: Weights) -> list[str]:
    network = build_model(architecture)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(network, architecture, weights)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()), "partly loaded"
    return str(caught.value).splitlines()


def test_our_own_names() -> None:
    architecture, state = small(SE), state_of(small(SE))
    network = build_model(architecture)
    told = load_weights(network, architecture, Weights("w.pth", state))
    assert set(told.loaded) == set(state)
    assert (told.peer, told.new, told.left, told.notes) == (None, (), (), ())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert list(told.lines()) == [f"w.pth: {len(state)} tensors loaded"]


def test_new_operators_are_named() -> None:
    told = load_weights(build_model(small(SE)), small(SE), Weights("w.pth", state_of(small())))
    assert set(told.loaded) == set(state_of(small()))
    assert list(told.lines())[1:] == ["inserted: layer1.0.refine (se), layer2.0.refine (se)"]


def test_an_operator_of_another_width_is_inserted_anew() -> None:
    told = load_weights(build_model(small(SE)), small(SE), Weights("w.pth", state_of(small(SE.replace("2}", "4}")))))
    assert told.inserted == ("layer1.0.refine (se)", "layer2.0.refine (se)")
    assert all(".refine." in name for name in told.left)


def test_operators_that_the_network_lacks_are_left_and_named() -> None:
    told = load_weights(build_model(small()), small(), Weights("w.pth", state_of(small(SE))))
    assert told.left
    assert all(".refine." in name for name in told.left)
    assert list(told.lines())[1].startswith("left in the file: stages.layer1.0.refine.reduce")


def test_another_number_of_classes_gives_a_new_head() -> None:
    architecture = small()
    network = build_model(architecture)
    own = network.state_dict()["head.2.weight"].clone()
    told = load_weights(network, architecture, Weights("w.pth", state_of(small(num_classes=9))))
    assert torch.equal(network.state_dict()["head.2.weight"], own)
    assert set(told.new) == set(told.left) == {"head.2.weight", "head.2.bias"}
    assert list(told.lines())[-1] == "the head is new, because the file has another number of classes"


def test_a_grey_picture_gives_what_it_gives_in_equal_colours() -> None:
    grey, colours = small(in_channels=1), small()
    network, coloured = build_model(grey).eval(), build_model(colours).eval()
    told = load_weights(network, grey, Weights("w.pth", coloured.state_dict()))
    assert told.notes == ("stem.0.weight is summed over three colours, because the images are grey",)
    image = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(network(image), coloured(image.expand(-1, 3, -1, -1)))


def test_all_differences_are_told_at_once_and_nothing_is_loaded() -> None:
    state = state_of(small())
    del state["stem.1.bias"]
    state["stages.layer1.0.branch.0.weight"] = torch.zeros(8, 8, 5, 5)
    state["stages.layer4.0.branch.0.weight"] = torch.zeros(1)
    assert refused(small(), Weights("w.pth", state)) == [
        "w.pth: stem.1.bias is missing",
        "w.pth: stages.layer1.0.branch.0.weight is 8x8x5x5, and 8x8x3x3 in the network",
        "w.pth: stages.layer4.0.branch.0.weight is not in the network; "
        "give weights of this network (resnet), or another network to train",
    ]


def test_many_differences_are_counted() -> None:
    lines = refused(small(), Weights("w.pth", state_of(small(width=16))))
    assert len(lines) == 9
    assert lines[-1].startswith("w.pth: and ")


def test_a_peers_differences_have_both_names() -> None:
    state = to_torchvision(state_of(small()), small())
    del state["layer1.0.conv1.weight"]
    state["layer9.0.conv1.weight"] = torch.zeros(1)
    lines = refused(small(), Weights("w.pth", state, "torchvision"))
    assert lines[0] == "w.pth: layer9.0.conv1.weight is not in the network"
    assert lines[1].startswith(
        "w.pth: stages.layer1.0.branch.0.weight (layer1.0.conv1.weight there) is missing; give weights of this network"
    )


def test_foreign_names_are_refused_in_one_line() -> None:
    (line,) = refused(small(), Weights("w.pth", {"backbone.0": torch.zeros(1)}))
    assert "its names (backbone.0) are none of a resnet in the names of ours or torchvision or timm" in line


def test_a_library_without_the_family_is_named() -> None:
    mnasnet = (
        small(family="mnasnet", depth=None, width=None)
        if False
        else parse_architecture("{schema: 1, skeleton: {family: mnasnet, image_size: 32, num_classes: 5}}", "test")
    )
    (line,) = refused(mnasnet, Weights("torchvision:mnasnet1_0", {"layers.0.weight": torch.zeros(1)}, "torchvision"))
    assert line == "torchvision:mnasnet1_0: torchvision has no network of the family mnasnet; timm has one"


def test_a_stride_elsewhere_is_said() -> None:
    theirs: nn.Module = import_module("torchvision.models").resnet50(num_classes=5)
    for stride_on, said in (("first", True), ("3x3", False)):
        ours = small(depth=50, width=64, stride_on=stride_on, image_size=32)
        notes = load_weights(build_model(ours), ours, Weights("w.pth", theirs.state_dict(), "torchvision")).notes
        assert any("the stride of a bottleneck is in its 3x3 there" in note for note in notes) == said


def test_attention_that_a_peer_lacks_is_not_written() -> None:
    with pytest.raises(ValueError, match=r"torchvision has no name for stages\.layer1\.0\.refine\.reduce\.weight and"):
        to_torchvision(state_of(small(SE)), small(SE))
    assert "layer1.0.se.fc1.weight" in to_peer(state_of(small(SE)), small(SE), "timm")


def test_a_counter_of_steps_may_be_missing() -> None:
    state = {name: value for name, value in state_of(small()).items() if not name.endswith("num_batches_tracked")}
    assert load_weights(build_model(small()), small(), Weights("w.pth", state)).new == ()
