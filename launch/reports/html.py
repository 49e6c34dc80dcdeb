"""The report as one self-contained HTML file."""

import base64
import html
import re
from collections.abc import Mapping, Sequence

from launch.reports.facts import Facts
from launch.reports.prose import FINALISTS_TITLE, FRONT_TITLE, cells, finalist_cells, header, one_seed, reading, title
from search_spaces.errors import named


def page(facts: Facts, text: str, images: Mapping[str, bytes]) -> str:
    """`text`: the report as Markdown. `images`: PNG files by name."""
    lines = text.splitlines()
    paragraphs = [line for line in lines[2 : lines.index(f"## {FRONT_TITLE}")] if line]
    metric = facts.run.metric
    body = "".join(
        f"<tr class={'front' if row['front'] else 'other'}><td>{row['trial']}</td>"
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(facts.run, row))
        + "</tr>"
        for row in facts.rows
    )
    shown = "".join(
        f'<figure><img alt="{html.escape(title(name, metric))}" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}">'
        f"<figcaption>{html.escape(title(name, metric))}</figcaption></figure>"
        for name, data in images.items()
    )
    heading = "".join(f"<th>{html.escape(name)}</th>" for name in ["trial", *header(facts.run)])
    again = _finalists([finalist_cells(row, metric) for row in facts.finalists], reading(facts), one_seed(metric))
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{html.escape(facts.run.space.name or named(facts.run.folder.name))}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }}
table {{ border-collapse: collapse; font-size: 13px; display: block; overflow-x: auto }}
th, td {{ text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #e4e7eb; vertical-align: top }}
tr.front td:first-child {{ font-weight: 700; color: #0b6e4f }} tr.other {{ color: #7b8794 }}
figure {{ margin: 1.5rem 0 }} img {{ max-width: 100% }} figcaption {{ font-size: 13px; color: #7b8794 }}
</style>
<h1>{html.escape(lines[0].removeprefix("# "))}</h1>
{"".join(f"<p>{html.escape(p)}</p>" for p in paragraphs)}
<h2>{FRONT_TITLE}</h2>
<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>
{again}
{shown}
</html>
"""


def _finalists(cells: Sequence[Mapping[str, str]], reading: str, without: str) -> str:
    if not cells:
        return f"<p>{html.escape(without)}</p>"
    heading = "".join(f"<th>{html.escape(name)}</th>" for name in cells[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row.values()) + "</tr>" for row in cells
    )
    reading = re.sub(r"`(.+?)`", r"<code>\1</code>", html.escape(reading))
    table = f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"
    return f"<h2>{FINALISTS_TITLE}</h2>{table}<p>{reading}</p>"
