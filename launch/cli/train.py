"""`nas train`."""

from pathlib import Path
from typing import Annotated

import typer

from launch.cli.options import Json, Set, new_console
from launch.files import check_folder, naming
from launch.reports.tables import print_json
from launch.training import train_in_full
from search_spaces import load_architecture


def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="An architecture file, or the name of a zoo entry.")],
    recipe: Annotated[str | None, typer.Option(help="A recipe's name or file: data and trainer.")] = None,
    run: Annotated[Path | None, typer.Option(help="Use data and trainer of this run instead.")] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WEIGHTS",
            help="Start from trained weights: a .safetensors, .pth or .pt file, torchvision:NAME or timm:NAME.",
        ),
    ] = None,
    *,
    overrides: Set,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for checkpoint and figures.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    json: Json = False,
) -> None:
    """Trains one network in full, continues where it was stopped, and prints the test figures at the end."""

    architecture = load_architecture(config)
    folder = output or Path("runs") / f"train-{Path(config).stem}"
    check_folder(folder)
    with naming(folder):
        figures = train_in_full(architecture, folder, new_console(stderr=json), recipe, run, overrides, device, start)
    if json:
        print_json(figures)
