"""`nas zoo`."""

from dataclasses import asdict
from typing import Annotated, Any

import typer

from launch.cli.options import Json, new_console
from launch.errors import UserError
from launch.reports.tables import print_json, print_table
from nas import paper_tables
from nas.costs import count
from search_spaces import Architecture, load_architecture, zoo_names


def zoo(
    table: Annotated[
        str | None, typer.Option(help="A table of the papers, such as 'AA T3'; 'all' for all tables.")
    ] = None,
    json: Json = False,
) -> None:
    """Lists the papers' networks; with --table, compares a paper's figures with ours."""
    if table is None:
        rows = [_zoo_row(name, load_architecture(name)) for name in zoo_names()]
        if json:
            print_json(rows)
        else:
            print_table(new_console(), rows)
        return

    names = paper_tables.tables()
    if table != "all" and table not in names:
        raise UserError(f"there is no table {table!r}; choose one of {', '.join(names)}, or all")
    found = [row for name in (names if table == "all" else [table]) for row in paper_tables.rows(name)]
    if json:
        print_json([asdict(row) for row in found])
        return
    notes: dict[str, int] = {}
    console = new_console()
    cells = [_paper_row(row, notes) for row in found]
    columns = list(dict.fromkeys(name for row in cells for name in row if name != "notes"))
    print_table(console, cells, columns=[*columns, "notes"])
    for note, number in notes.items():
        console.print(f"[{number}] {note}", style="dim", soft_wrap=True)


def _zoo_row(name: str, architecture: Architecture) -> dict[str, Any]:
    placed = sorted({choice.option for slots in architecture.placements.values() for choice in slots.values()})
    figures = count(architecture)
    return {
        "name": name,
        "skeleton": architecture.skeleton.family,
        "attention": ", ".join(placed) or "none",
        "params": figures.params,
        "macs": figures.macs,
    }


def _paper_row(row: paper_tables.PaperRow, notes: dict[str, int]) -> dict[str, Any]:
    """A row with the printed accuracies. Its counting convention and the reason of a mismatch are numbered `notes`."""
    numbers = [notes.setdefault(note, len(notes) + 1) for note in (row.convention, row.reason) if note]
    cells: dict[str, Any] = {"row": row.row, "zoo": row.zoo}
    figures = (
        ("params, M", row.printed_params_m, row.params_m, row.params_match),
        ("GFLOPs", row.printed_gflops, row.gflops, row.gflops_match),
    )
    for pad, (name, printed, own, match) in zip(("", " "), figures, strict=True):  # two columns of one name
        cells |= {
            name: printed,
            f"ours{pad}": None if own is None else f"{own:.5f}",
            f"off by{pad}": None if own is None or printed is None else f"{own - printed:+.5f}",
            f"match{pad}": match,
        }
    cells |= row.results
    return cells | {"notes": ", ".join(map(str, numbers))}
