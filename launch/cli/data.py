"""`nas data`."""

from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from launch.cli.options import Json, Set, new_console
from launch.reports.tables import print_json, print_table
from search_spaces.yamlfile import read_yaml, validate, write_yaml
from trainers import DataError, Recipe
from trainers.datasets import Inspection
from trainers.datasets.base import shown
from trainers.datasets.imagefolder import Divided, divide, inspect

_CHECKED = "checked: the header and the end of every file; pixels are decoded only if the end does not fit the format"


def data(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of pictures: data.root of an imagefolder.")],
    *,
    overrides: Set,
    json: Json = False,
) -> None:
    """Shows what a search finds in a folder of pictures: classes, splits, the files left out and why."""
    document = read_yaml(write_yaml({"data": {"name": "imagefolder", "root": str(folder)}}), str(folder))
    config = validate(document.with_overrides(overrides), Recipe).data
    progress = Progress(
        TextColumn("looking at files"),
        BarColumn(),
        MofNCompleteColumn(),
        console=new_console(stderr=True),
        transient=True,
        disable=not new_console(stderr=True).is_terminal,
    )
    with progress as bar:
        task = bar.add_task("files", total=None)
        inspection = inspect(config, lambda done, total: bar.update(task, completed=done, total=total))
    if json:
        divided = divide(inspection, config)
        print_json({**inspection.to_dict(), "splits": _counts(inspection, divided), "told": list(divided.warnings)})
        return
    console = new_console()
    _show(console, inspection)
    try:
        divided = divide(inspection, config)
    except DataError as error:
        print_table(console, _rows(inspection, None))
        raise error from None
    print_table(console, _rows(inspection, divided))
    for line in (*inspection.warnings, *divided.warnings):
        console.print(f"warning: {line}", markup=False, soft_wrap=True)
    console.print(_CHECKED, style="dim", soft_wrap=True)


def _show(console: Console, inspection: Inspection) -> None:
    """Prints everything except the table of classes."""
    smallest, middle, largest = (f"{width}x{height}" for width, height in inspection.sizes)
    pictures = sum(len(part.labels) for part in inspection.parts.values())
    modes = ", ".join(f"{mode} ({count:,})" for mode, count in inspection.modes.items())
    lines = [
        f"{shown(inspection.root)}: {pictures:,} pictures of {len(inspection.classes)} classes",
        f"sizes: {smallest} to {largest}, {middle} in the middle",
        f"pixels: {modes}",
        *(
            f"left out: {len(paths):,} x {reason}, such as {paths[0]}"
            for reason, paths in inspection.to_dict()["left_out"].items()
        ),
        *(f"cannot be read: {path} ({why})" for path, why in inspection.to_dict()["unreadable"].items()),
    ]
    for line in lines:
        console.print(line, markup=False, soft_wrap=True)
    console.print()


def _counts(inspection: Inspection, divided: Divided) -> dict[str, list[int]]:
    """Split -> pictures per class in training."""
    splits = {"train": divided.train, "val": divided.val, "test": divided.test}
    return {
        name: [Counter(split.labels.tolist())[label] for label in range(len(inspection.classes))]
        for name, split in splits.items()
    }


def _rows(inspection: Inspection, divided: Divided | None) -> list[dict[str, Any]]:
    """One row per class: pictures in its folders, and pictures used in training."""
    columns = {f"in {shown(part.folder.name)}/": inspection.counts()[name] for name, part in inspection.parts.items()}
    if divided is not None:
        columns |= _counts(inspection, divided)
    return [
        {"class": shown(name), **{column: counts[label] for column, counts in columns.items()}}
        for label, name in enumerate(inspection.classes)
    ]
