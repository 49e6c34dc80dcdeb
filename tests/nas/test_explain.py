"""`nas.explain` gathers what operators show, at the right places, and leaves the network as it was."""

import torch

from nas.explain import by_class, cell, look, showing, strongest
from nas.operators import Attention, ChannelGates
from search_spaces import parse_architecture

NETWORK = parse_architecture("""
schema: 1
skeleton: {family: resnet, depth: 8, width: 16, image_size: 16, num_classes: 3}
placements:
  "layer1.*": {refine: se}
  "layer3.*": {conv: {aa: {kappa: 1.0, upsilon: 0.5, heads: 2}}, after: gc}
""")


def test_parts_show_the_maps_that_they_get_and_the_output_stays() -> None:
    torch.manual_seed(0)
    network, parts = showing(NETWORK)
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = network(images)
    logits, shown = look(network, parts, images)
    assert torch.equal(logits, expected)
    assert [part.name for part in parts] == ["layer1.0 refine: se", "layer3.0 conv: aa", "layer3.0 after: gc"]
    se, aa = shown[0]["channels"], shown[1]["attention"]
    assert isinstance(se, ChannelGates)
    assert isinstance(aa, Attention)
    assert se.values.shape == (2, 16)
    assert aa.queries == (4, 4)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in network.modules())


def test_cells_and_the_strongest_pixel() -> None:
    assert cell((0, 31), (32, 32), (4, 4)) == (0, 3)
    assert cell((8, 7), (32, 32), (4, 4)) == (1, 0)
    key = torch.zeros(1, 1, 16, 1)
    key[0, 0, 6] = 3.0  # row 1, column 2
    attention = Attention(torch.ones(1, 1, 16, 1), key, (4, 4), (4, 4))
    assert strongest(attention, (32, 32)) == (12, 20)
    assert cell(strongest(attention, (32, 32)), (32, 32), (4, 4)) == (1, 2)


def test_means_by_class() -> None:
    found = by_class(torch.tensor([[1.0, 0], [0, 2], [3, 0]]), ["b", "a", "b"])
    assert {name: mean.tolist() for name, mean in found.items()} == {"a": [0, 2], "b": [2, 0]}
    assert list(found) == ["a", "b"]
