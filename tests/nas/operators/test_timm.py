"""With timm's weights, our operators give timm's output. (timm's GatherExcite is known to be broken.)"""

from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from nas.operators import OPERATORS
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site, Value

C = 16
SITE = Site("refine", C, C, size=5)


def of_timm(module: str) -> ModuleType:  # imported by its tests alone: it takes seconds
    found: ModuleType = pytest.importorskip(f"timm.layers.{module}")
    return found


def ours(name: str, params: dict[str, Value]) -> nn.Module:
    return OPERATORS[name].build(SITE, resolve(OPTIONS[name], params, SITE)).eval()


def shuffled(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for value in [*module.parameters(), *module.buffers()]:
            if value.is_floating_point():
                value.uniform_(0.1, 0.9)
    return module.eval()


def assert_same(module: nn.Module, theirs: nn.Module, names: dict[str, str]) -> None:
    """``names``: ours -> theirs, prefixes of state-dict keys."""
    torch.manual_seed(0)
    source = shuffled(theirs).state_dict()
    state: dict[str, Tensor] = {}
    for key, value in module.state_dict().items():
        prefix, _, leaf = key.rpartition(".")
        state[key] = source[f"{names[prefix]}.{leaf}"].reshape(value.shape)
    module.load_state_dict(state)
    x = torch.randn(3, C, 5, 5)
    torch.testing.assert_close(module(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_se() -> None:
    theirs = of_timm("squeeze_excite").SEModule(C, rd_channels=4)
    assert_same(ours("se", {"reduction": 4}), theirs, {"reduce": "fc1", "expand": "fc2"})


def test_cbam_full_and_max_pool() -> None:
    cbam, mlp = of_timm("cbam"), {"reduce": "fc1", "expand": "fc2"}
    channel = cbam.ChannelAttn(C, rd_channels=4, mlp_bias=True)
    assert_same(ours("cbam", {"reduction": 4, "variant": "max_pool"}), channel, mlp)
    theirs = cbam.CbamModule(C, rd_channels=4, mlp_bias=True)
    # timm stacks [mean; max], the authors' code [max; mean].
    theirs.spatial.conv.conv.weight.data = theirs.spatial.conv.conv.weight.data.flip(1)
    names = {name: f"channel.{theirs}" for name, theirs in mlp.items()}
    module = ours("cbam", {"reduction": 4})
    original = theirs.spatial.conv.conv.forward
    theirs.spatial.conv.conv.forward = lambda x: original(x.flip(1))
    assert_same(module, theirs, names | {"spatial": "spatial.conv.conv", "norm": "spatial.conv.bn"})


def test_gc() -> None:
    theirs = of_timm("global_context").GlobalContext(C, fuse_add=True, fuse_scale=False, rd_channels=4)
    theirs.mlp_add.norm.eps = 1e-5  # torch's default, as in the authors' code; timm's is 1e-6
    names = {f"transform.{i}": f"mlp_add.{name}" for i, name in ((0, "fc1"), (1, "norm"), (3, "fc2"))}
    assert_same(ours("gc", {"reduction": 4}), theirs, {"mask": "conv_attn"} | names)


def test_non_local() -> None:
    theirs = of_timm("non_local_attn").NonLocalAttn(C, use_scale=False, rd_channels=8)
    names = {"theta": "t", "phi": "p", "g": "g", "out": "z", "norm": "norm"}
    assert_same(ours("non_local", {}), theirs, names)
