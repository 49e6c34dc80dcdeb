"""Compares operators with other implementations (peers): time and peak memory, forward and forward with backward.

    python benchmarks/operators.py                      # writes docs/operators.md and docs/operators.png
    python benchmarks/operators.py --device cuda --only attention --rounds 30

All candidates of a case run in turn in one process, each round in a new order. A ratio compares two runs of the same
round, because the speed of a shared machine varies over time. Figures are medians with quartiles. Peak memory is the
largest number of bytes allocated during forward and backward, beyond the inputs.

Peers: attention in the style of the reference code (all logits and relative-to-absolute reshapes, written from the
paper); one grouped convolution for AW, and the plain 3x3; timm's SE, CBAM, global context and non-local modules.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import matplotlib as mpl
import torch
from _side_by_side import Timing, against, alternate, conditions, peak_bytes, write
from timm.layers.cbam import CbamModule
from timm.layers.global_context import GlobalContext
from timm.layers.non_local_attn import NonLocalAttn
from timm.layers.squeeze_excite import SEModule
from torch import Tensor, nn
from torch.nn import functional as F

from nas.operators import OPERATORS
from nas.operators.attention import attend
from search_spaces.options import OPTIONS, resolve
from search_spaces.sites import Site, Value

mpl.use("Agg")
from matplotlib import pyplot as plt

Call = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """Candidates on the same inputs. Ratios are relative to the first, which is a peer; the last is ours."""

    group: str
    name: str
    candidates: Mapping[str, Call]
    inputs: tuple[Tensor, ...]
    goals: tuple[float | None, float | None, float | None] = (None, None, None)  # forward, with backward, memory


# Peers written here --------------------------------------------------------------------------------------------------


def relative_to_absolute(logits: Tensor) -> Tensor:
    """[B, heads, L, 2 L - 1] by offset -> [B, heads, L, L] by position (paper, appendix)."""
    batch, heads, length, _ = logits.shape
    logits = F.pad(logits, (0, 1)).reshape(batch, heads, length * 2 * length)
    logits = F.pad(logits, (0, length - 1)).reshape(batch, heads, length + 1, 2 * length - 1)
    return logits[:, :, :length, length - 1 :]


def relative_logits(q: Tensor, table: Tensor, order: Sequence[int]) -> Tensor:
    """One direction: q [B, heads, H, W, d] -> [B, heads, HW, HW]."""
    batch, heads, h, w, _ = q.shape
    logits = torch.einsum("bhxyd,md->bhxym", q, table).reshape(batch, heads * h, w, 2 * w - 1)
    logits = relative_to_absolute(logits).reshape(batch, heads, h, w, w)
    logits = logits.unsqueeze(3).repeat(1, 1, 1, h, 1, 1)
    return logits.permute(*order).reshape(batch, heads, h * w, h * w)


def reference_attention(qkv: Tensor, rel_h: Tensor, rel_w: Tensor, *, heads: int, d_k: int) -> Tensor:
    n, channels, h, w = qkv.shape
    q, k, v = torch.split(qkv, [d_k, d_k, channels - 2 * d_k], 1)
    q, k, v = (part.reshape(n, heads, -1, h, w).permute(0, 1, 3, 4, 2) for part in (q * (d_k // heads) ** -0.5, k, v))
    logits = q.flatten(2, 3) @ k.flatten(2, 3).transpose(2, 3)
    logits = logits + relative_logits(q, rel_w, (0, 1, 2, 4, 3, 5))
    logits = logits + relative_logits(q.transpose(2, 3), rel_h, (0, 1, 4, 2, 5, 3))
    return (logits.softmax(-1) @ v.flatten(2, 3)).transpose(2, 3).reshape(n, -1, h, w)


def grouped(module: nn.Module) -> Call:
    """An AW operator with all kernels in one grouped convolution."""

    def call(x: Tensor) -> Tensor:
        kernels = module.conv.weight * (1 + module.attention(F.adaptive_avg_pool2d(x, 3))).unsqueeze(2)
        out = F.conv2d(x.reshape(1, -1, *x.shape[2:]), kernels.flatten(0, 1), padding=1, groups=len(x))
        return out.reshape(len(x), -1, *out.shape[2:])

    return call


# Cases ---------------------------------------------------------------------------------------------------------------


def ours(name: str, site: Site, **params: Value) -> nn.Module:
    return OPERATORS[name].build(site, resolve(OPTIONS[name], params, site))


def attention_cases() -> list[Case]:
    cases = []
    heads, d_k = 8, 160
    for network, size, batch, d_v, goals in (
        ("ResNet-50", 28, 8, 8, (0.20, 0.45, 0.20)),
        ("ResNet-50", 14, 32, 24, (0.20, 0.45, None)),
        ("ResNet-50", 7, 32, 48, (0.80, 0.80, None)),
        ("WRN-28-10", 32, 4, 16, (0.20, 0.45, 0.20)),
        ("WRN-28-10", 16, 32, 32, (0.20, 0.45, None)),
        ("WRN-28-10", 8, 32, 64, (0.80, 0.80, None)),
    ):
        tables = [torch.randn(2 * size - 1, d_k // heads) * (d_k // heads) ** -0.5 for _ in range(2)]

        def reference(qkv: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
            return reference_attention(qkv, rel_h, rel_w, heads=heads, d_k=d_k)

        def attention(qkv: Tensor, rel_h: Tensor, rel_w: Tensor) -> Tensor:
            return attend(qkv, heads, d_k, (rel_h, rel_w))

        inputs = torch.randn(batch, 2 * d_k + d_v, size, size), *tables
        name = f"{size}x{size}, batch {batch} ({network})"
        cases.append(Case("attention", name, {"reference style": reference, "ours": attention}, inputs, goals))
    return cases


def aw_cases() -> list[Case]:
    cases = []
    for size, channels, goal in ((56, 64, 1.10), (28, 128, 1.30), (14, 256, 1.55), (7, 512, 1.45)):
        site = Site("conv", channels, channels, size, kernel_size=3)
        module = ours("aw", site)
        candidates = {"plain 3x3": ours("plain", site), "grouped convolution": grouped(module), "ours": module}
        goals = (None, goal, 3.0)
        cases.append(Case("aw", f"{size}x{size}x{channels}, batch 32", candidates, _images(32, channels, size), goals))
    return cases


def module_cases() -> list[Case]:
    cases = []
    for size, channels, batch in ((56, 256, 8), (14, 1024, 8), (7, 2048, 8), (8, 640, 32)):
        site, hidden = Site("refine", channels, channels, size), channels // 16
        pairs = {
            "se": (SEModule(channels, rd_channels=hidden), ours("se", site)),
            "cbam": (CbamModule(channels, rd_channels=hidden, mlp_bias=True), ours("cbam", site)),
            "gc": (GlobalContext(channels, fuse_add=True, fuse_scale=False, rd_channels=hidden), ours("gc", site)),
        }
        if size < 56:  # timm's non-local holds all pairs of positions
            theirs = NonLocalAttn(channels, use_scale=False, rd_channels=channels // 2)
            pairs["non_local"] = theirs, ours("non_local", site)
        for name, (timm, mine) in pairs.items():
            title = f"{name} {size}x{size}x{channels}, batch {batch}"
            candidates = {"timm": timm, "ours": mine}
            cases.append(Case("modules", title, candidates, _images(batch, channels, size), (1.05, 1.05, None)))
    return cases


def large_cases() -> list[Case]:
    """A whole AA operator that is too large for the reference style, which needs several copies of 2.5 GB of logits."""
    module = ours("aa", Site("conv", 64, 64, 56, kernel_size=3))
    return [Case("large", "56x56x64, batch 8", {"ours": module}, _images(8, 64, 56))]


def _images(batch: int, channels: int, size: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, channels, size, size),)


GROUPS = {"attention": attention_cases, "aw": aw_cases, "modules": module_cases, "large": large_cases}


# Measuring -----------------------------------------------------------------------------------------------------------


def forward(call: Call, inputs: Sequence[Tensor]) -> None:
    with torch.no_grad():
        call(*inputs)


def with_backward(call: Call, inputs: Sequence[Tensor]) -> None:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    out = call(*leaves)
    out.backward(torch.ones_like(out))


def measure(case: Case, run: Callable[[Call, Sequence[Tensor]], None], rounds: int, device: str) -> dict[str, Timing]:
    return alternate({name: partial(run, call, case.inputs) for name, call in case.candidates.items()}, rounds, device)


def peaks(case: Case, device: str) -> dict[str, int]:
    """Peak bytes of forward and backward, including new gradients of the parameters."""
    found = {}
    for name, call in case.candidates.items():
        if isinstance(call, nn.Module):
            call.zero_grad(set_to_none=True)
        found[name] = peak_bytes(partial(with_backward, call, case.inputs), device)
    return found


# Writing -------------------------------------------------------------------------------------------------------------

Row = tuple[Case, Mapping[str, Timing], Mapping[str, Timing], Mapping[str, int]]
TITLES = {
    "attention": "The attention part of AA, from q, k, v to mixed values",
    "aw": "AW against the plain 3x3",
    "modules": "SE, CBAM, GC and non-local against timm's",
    "large": "AA alone on a large map: under 1,000 MB",
}


def markdown(rows: Sequence[Row], how: str) -> str:
    """The tables, one section per group."""
    lines = [how]
    for group, title in TITLES.items():
        cases = [row for row in rows if row[0].group == group]
        if not cases:
            continue
        lines += ["", f"### {title}", ""]
        lines += ["| case | candidate | forward ms | ratio | with backward ms | ratio | peak MB | ratio |"]
        lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
        for case, first, second, memory in cases:
            peer = next(iter(case.candidates))
            for name in case.candidates:
                goals = case.goals if name == "ours" else (None, None, None)
                cells = [case.name, name]
                for timings, goal in ((first, goals[0]), (second, goals[1])):
                    cells += [str(timings[name]), against(timings[name].ratio, goal)]
                cells += [f"{memory[name] / 1e6:.0f}", against(memory[name] / memory[peer], goals[2])]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def picture(rows: Sequence[Row], path: Path) -> None:
    """Plots a bar per case: time of forward and backward, ours over the peer's; a mark shows the goal."""
    rows = [row for row in rows if len(row[0].candidates) > 1]
    figure, axis = plt.subplots(figsize=(9, 0.32 * len(rows) + 1.2), layout="constrained")
    for place, (case, _, second, _) in enumerate(rows):
        axis.barh(place, second["ours"].ratio, color=f"C{list(GROUPS).index(case.group)}")
        if case.goals[1] is not None:
            axis.plot([case.goals[1]] * 2, [place - 0.4, place + 0.4], color="black")
    axis.axvline(1, color="grey", linewidth=0.8)
    axis.set_yticks(range(len(rows)), [f"{case.group}: {case.name}" for case, *_ in rows], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("forward and backward, ours over the peer (black: goal)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs")
    args = parser.parse_args()
    torch.manual_seed(0)
    how = f"{conditions(args.device)}, float32, {args.rounds} rounds; times are medians with quartiles."
    rows: list[Row] = []
    for group in args.only:
        for case in GROUPS[group]():
            for call in case.candidates.values():
                if isinstance(call, nn.Module):
                    call.to(args.device)
            inputs = tuple(tensor.to(args.device) for tensor in case.inputs)
            here = replace(case, inputs=inputs)
            rounds = args.rounds if len(here.candidates) > 1 else 2  # a case without a peer only shows the memory
            timings = [measure(here, run, rounds, args.device) for run in (forward, with_backward)]
            rows.append((here, *timings, peaks(here, args.device)))
            ratios = [timing["ours"].ratio for timing in timings]
            print(f"{group}: {case.name}: forward {ratios[0]:.2f}, with backward {ratios[1]:.2f}", flush=True)
        # After every group, so that an interrupted run leaves its results.
        write(markdown(rows, how), "benchmarks/operators.py", args.out / "operators.md")
        picture(rows, args.out / "operators.png")


if __name__ == "__main__":
    main()
