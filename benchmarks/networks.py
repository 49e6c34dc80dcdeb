"""Whole ResNet-50 with attention: inference and training step as percentage over plain, beside the AA paper's Table 2.

    python benchmarks/networks.py                       # writes docs/networks.md and docs/networks.png
    python benchmarks/networks.py --device cuda --batch 64 --rounds 30 --channels-last --bf16 --compile

All networks have the same skeleton (stride on the 3x3) and run in turn in one process, each round in a new order. A
percentage is the median over rounds of the time relative to the plain network's. A training step is forward,
cross-entropy, backward and SGD with momentum.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import torch
from _side_by_side import Run, Timing, against, alternate, conditions, write
from torch import Tensor, nn
from torch.nn import functional as F

from nas import build_model
from search_spaces import Architecture, load_architecture, parse_architecture

mpl.use("Agg")
from matplotlib import pyplot as plt


def everywhere(slot: str, option: str) -> Architecture:
    return parse_architecture(
        "schema: 1\n"
        "skeleton: {family: resnet, depth: 50, stride_on: 3x3, image_size: 224, num_classes: 1000}\n"
        f'placements: {{"*": {{{slot}: {option}}}}}\n'
    )


@dataclass(frozen=True)
class Row:
    """A network, with the paper's percentages over plain and our goals, as (inference, training)."""

    network: Callable[[], Architecture]
    paper: tuple[int, int] | None = None
    goals: tuple[int | None, int | None] = (None, None)


ROWS: Mapping[str, Row] = {
    "plain": Row(lambda: load_architecture("resnet50_v1.5")),
    "SE": Row(lambda: load_architecture("se_resnet50_v1.5"), (12, 92), (4, 8)),
    "BAM": Row(lambda: load_architecture("bam_resnet50_v1.5"), (19, 43)),
    "CBAM": Row(lambda: load_architecture("cbam_resnet50_v1.5"), (56, 132)),
    "GALA": Row(lambda: load_architecture("gala_resnet50_v1.5"), (86, 133)),
    "GC": Row(lambda: everywhere("refine", "gc")),
    "AA": Row(lambda: load_architecture("aa_resnet50"), (29, 25), (18, 18)),
    "AW": Row(lambda: everywhere("conv", "aw"), None, (15, 12)),
}


def inference(model: nn.Module, images: Tensor, context: Callable[[], AbstractContextManager[object]]) -> Run:
    def run() -> None:
        model.eval()
        with torch.inference_mode(), context():
            model(images)

    return run


def training_step(
    model: nn.Module, images: Tensor, labels: Tensor, context: Callable[[], AbstractContextManager[object]]
) -> Run:
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def run() -> None:
        model.train()
        optimizer.zero_grad()
        with context():
            loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    return run


Timings = Mapping[str, Timing]


def percent(timing: Timing) -> float:
    return 100 * (timing.ratio - 1)


def markdown(infer: Timings, train: Timings, how: str) -> str:
    lines = [
        "| ResNet-50 | inference ms | over plain, % | paper, % | training step ms | over plain, % | paper, % |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name in infer:
        row = ROWS[name]
        cells = [name]
        for place, timings in enumerate((infer, train)):
            paper = "" if row.paper is None else f"{row.paper[place]:+d}"
            over = "" if name == "plain" else against(percent(timings[name]), row.goals[place], "+.0f")
            cells += [str(timings[name]), over, paper]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([how, "", *lines, ""])


def picture(infer: Timings, train: Timings, path: Path) -> None:
    """Plots a bar per network for inference and for training, with marks for the paper's figure and the goal."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
    names = [name for name in infer if name != "plain"]
    for place, (axis, timings, title) in enumerate(
        zip(axes, (infer, train), ("inference", "training step"), strict=True)
    ):
        axis.bar(range(len(names)), [percent(timings[name]) for name in names], color="C0", label="here")
        published = [(x, ROWS[name].paper[place]) for x, name in enumerate(names) if ROWS[name].paper is not None]
        goals = [(x, ROWS[name].goals[place]) for x, name in enumerate(names) if ROWS[name].goals[place] is not None]
        axis.plot(*zip(*published, strict=True), "D", color="C1", label="AA paper, Table 2")
        axis.plot(*zip(*goals, strict=True), "_", color="black", markersize=22, label="goal")
        axis.set_xticks(range(len(names)), names)
        axis.axhline(0, color="grey", linewidth=0.8)
        axis.set_title(title)
    axes[0].set_ylabel("% of time over plain ResNet-50")
    axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=[name for name in ROWS if name != "plain"], metavar="NAME")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast")
    parser.add_argument("--compile", action="store_true", help="torch.compile the whole network")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs", metavar="FOLDER")
    args = parser.parse_args()

    torch.manual_seed(0)
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    images = torch.randn(args.batch, 3, 224, 224, device=args.device).contiguous(memory_format=layout)
    labels = torch.randint(1000, (args.batch,), device=args.device)

    def context() -> AbstractContextManager[object]:
        return torch.autocast(args.device, torch.bfloat16) if args.bf16 else nullcontext()

    names: Sequence[str] = ["plain", *(args.only or [name for name in ROWS if name != "plain"])]
    models: dict[str, nn.Module] = {}
    for name in names:
        models[name] = build_model(ROWS[name].network(), device=args.device).to(memory_format=layout)
        if args.compile:
            models[name].compile()
    infer = alternate(
        {name: inference(model, images, context) for name, model in models.items()}, args.rounds, args.device
    )
    train = alternate(
        {name: training_step(model, images, labels, context) for name, model in models.items()},
        args.rounds,
        args.device,
    )
    asked = [flag for flag in ("channels_last", "bf16", "compile") if getattr(args, flag)]
    how = (
        f"{conditions(args.device)}; batch {args.batch} at 224x224, {', '.join(asked) or 'float32, NCHW, eager'}; "
        f"{args.rounds} rounds; times are medians with quartiles."
    )
    text = markdown(infer, train, how)
    print(text)
    write(text, "benchmarks/networks.py", args.out / "networks.md")
    picture(infer, train, args.out / "networks.png")


if __name__ == "__main__":
    main()
