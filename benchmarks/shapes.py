"""Does placement matter on the built-in pictures? Trains the baselines of the space `shapes` with its recipe.

    python benchmarks/shapes.py [--seeds 3] [--placements plain cbam ...] [--write docs/shapes.md]
    python benchmarks/shapes.py --picture docs/shapes.png

One row per baseline: validation top-1 after the last epoch for each seed, their mean, and its difference from plain.
"""

import argparse
import statistics
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from _side_by_side import write

from search_spaces import Architecture, load_space
from search_spaces.yamlfile import validate
from trainers import Dataset, Recipe, TrainerConfig, Training, load_data, recipe_document
from trainers.datasets import shapes

_CUES = {"blocks": shapes.BLOCK_CUE, "bar": shapes.BAR_CUE, "dot": shapes.DOT_CUE}


def final_top1(architecture: Architecture, data: Dataset, config: TrainerConfig, seed: int) -> float:
    """Validation top-1 after the last epoch, in percent."""
    training = Training(architecture, data, config, seed=seed)
    while training.epoch < training.epochs:
        training.run_epoch()
    return 100 * training.history[-1].val["top1"]


def rows(placements: Iterable[str], seeds: int) -> Iterator[list[str]]:
    """Top-1 of each seed, mean, and points above plain; plain comes first."""
    recipe = validate(recipe_document("shapes"), Recipe)
    data = load_data(recipe.data)
    networks = load_space("shapes").baselines()
    plain = 0.0
    for name in ["plain", *(name for name in placements if name != "plain")]:
        figures = [final_top1(networks[name], data, recipe.trainer, seed) for seed in range(seeds)]
        mean = statistics.fmean(figures)
        plain = mean if name == "plain" else plain
        yield [name, *(f"{figure:.1f}" for figure in figures), f"{mean:.1f}", f"{mean - plain:+.1f}"]


def table(placements: Iterable[str], seeds: int) -> str:
    head = ["placement", *(f"seed {seed}" for seed in range(seeds)), "mean", "over plain"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    print(*lines, sep="\n", flush=True)
    for row in rows(placements, seeds):
        lines.append("| " + " | ".join(row) + " |")
        print(lines[-1], flush=True)
    return "\n".join(lines) + "\n"


def picture(path: Path, columns: int = 6) -> None:
    """Plots pictures of the validation split, one row per kind of cue."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - seconds that the table does not need

    rng = np.random.default_rng([0, 1])
    scenes = shapes.compose(200, rng)
    images = shapes.draw(scenes, rng)
    figure = Figure(figsize=(1.5 * columns, 1.75 * len(_CUES)), layout="constrained")
    grid = figure.subplots(len(_CUES), columns)
    for line, (name, cue) in zip(grid, _CUES.items(), strict=True):
        for axis, index in zip(line, np.flatnonzero(scenes.cue == cue), strict=False):
            axis.imshow(images[index], interpolation="nearest")
            axis.set_title(shapes.CLASSES[scenes.labels[index]], fontsize=10)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(name, fontsize=10)
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--placements", nargs="+", default=["se", "cbam", "aa", "aw"])
    parser.add_argument("--write", type=Path, metavar="FILE", help="replace the text after the mark in this file")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the data set instead")
    args = parser.parse_args()
    if args.picture is not None:
        picture(args.picture)
        return
    torch.set_num_threads(1)
    text = table(args.placements, args.seeds)
    if args.write is not None:
        write(text, "benchmarks/shapes.py", args.write)


if __name__ == "__main__":
    main()
