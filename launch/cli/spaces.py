"""`nas show`."""

from typing import Annotated, Any

import typer

from launch.cli.options import Json, new_console
from launch.reports.tables import choice, print_json, print_table
from search_spaces import EMPTY, OPTIONS, load_space


def show(
    file: Annotated[
        str, typer.Argument(metavar="SPACE|ARCHITECTURE", help="A file, or the name of a preset or a zoo entry.")
    ],
    json: Json = False,
) -> None:
    """Shows the blocks of a space or an architecture, their choices, and the number of networks."""
    space = load_space(file)
    rows = [
        {
            "block": block.name,
            "channels": f"{site.in_channels} > {site.out_channels}",
            "size": site.size if site.stride == 1 else f"{site.size} > {site.out_size}",
            "slot": slot,
            "choices": " | ".join(
                choice(
                    offer.option,
                    {name: values[0] if len(values) == 1 else _any(values) for name, values in offer.params},
                    [
                        name
                        for name, values in offer.params
                        if len(values) > 1 or values[0] != _default(offer.option, name)
                    ],
                )
                for offer in offers
            ),
        }
        for block in space.blocks
        for slot, site in block.sites.items()
        if (offers := space.offers[block.name, slot])
        and not (len(offers) == 1 and offers[0].option == EMPTY[slot] and slot in ("conv2", "after"))
    ]
    if json:
        print_json(
            {"name": space.name, "size": space.size, "tie": space.tie, "decisions": len(space.groups), "sites": rows}
        )
        return
    console = new_console()
    print_table(console, rows)
    how = "one architecture" if space.size == 1 else f"{space.size:,} distinct architectures"
    decisions = len(space.groups)
    console.print(f"\n{space.name or file}: {space.skeleton.family}, {how}, {decisions} decisions (tie: {space.tie})")


def _any(values: tuple[Any, ...]) -> str:
    return "[" + ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in values) + "]"


def _default(option: str, name: str) -> object:
    return OPTIONS[option].params[name].default if option in OPTIONS else None
