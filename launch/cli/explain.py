"""`nas explain`."""

from pathlib import Path
from typing import Annotated

import typer

from launch.cli.options import Json, new_console
from launch.explaining import explain as figures_of
from launch.files import check_folder, naming
from launch.reports.plots import png
from launch.reports.tables import print_json
from launch.reports.tensorboard import add_pictures
from search_spaces import load_architecture


def explain(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="An architecture file, or the name of a zoo entry.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Pictures, or folders of pictures.")],
    weights: Annotated[Path, typer.Option(help="The checkpoint.pt of nas train, or its folder.")],
    *,
    pixel: Annotated[
        list[str],
        typer.Option(
            default_factory=list,
            show_default=False,
            metavar="ROW,COLUMN",
            help="Draw the attention of this pixel; repeatable. Default: the middle, and the most attended.",
        ),
    ],
    cam: Annotated[bool, typer.Option("--cam", help="Draw class activation maps too (needs captum).")] = False,
    most: Annotated[int, typer.Option(min=0, help="The most pictures that are drawn; means are over all.")] = 8,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the pictures.")] = None,
    tensorboard: Annotated[Path | None, typer.Option(help="A TensorBoard folder that gets the pictures too.")] = None,
    json: Json = False,
) -> None:
    """Draws what the attention of a trained network looks at: maps of positions, factors of channels."""
    architecture = load_architecture(config)
    folder = output or (weights if weights.is_dir() else weights.parent) / "explain"
    for place in filter(None, (folder, tensorboard)):
        check_folder(place)
    made = []
    for name, figure in figures_of(architecture, weights, images, pixel, most, cam=cam):
        with naming(folder / name):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(png(figure))
        if tensorboard is not None:
            with naming(tensorboard):
                add_pictures(tensorboard / "explain", {f"explain/{Path(name).stem}": figure})
        made.append(str(folder / name))
        if not json:
            new_console().print(made[-1], soft_wrap=True)
    if json:
        print_json({"files": made})
