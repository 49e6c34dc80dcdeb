"""The report as one HTML file that needs nothing else: pictures to explore, then the tables."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from itertools import groupby

from plotly.offline import get_plotlyjs

from launch.reports.facts import Facts
from launch.reports.figures import Picture
from launch.reports.health import Sign
from launch.reports.prose import (
    FRONT_TITLE,
    STANDINGS_TITLE,
    cells,
    header,
    how_to_read,
    one_seed,
    said,
    standing_cells,
)
from launch.reports.tables import finite
from search_spaces.errors import named, printable, typed


def page(facts: Facts, text: str, pictures: Sequence[Picture], signs: Sequence[Sign]) -> str:
    """The page. `text`: the report as Markdown."""
    lines = text.splitlines()
    first, *others = told = said(facts)
    paragraphs = [line for line in lines[2 : lines.index(f"## {FRONT_TITLE}")] if line not in ("", " ".join(told))]
    shown = "".join(_group(list(group), beside) for beside, group in groupby(pictures, lambda one: one.beside))
    name = facts.run.space.name or named(facts.run.folder.name)
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{_text(name)}</title>
<link rel="icon" href="data:,">
<style>{_file("page.css")}</style>
<body data-export="{_text(f"nas export {typed(facts.run.folder)}")}">
<h1>{_text(lines[0].removeprefix("# "))}</h1>
<p class="answer">{_text(first)}</p>
<p>{_text(" ".join(others))}</p>
{_signs(signs)}
{"".join(f"<p>{_text(p)}</p>" for p in paragraphs)}
{shown}
<section><h2>{FRONT_TITLE}</h2>{_front(facts)}</section>
<section>{_standings(facts)}</section>
<div id="told" role="status" hidden><span></span><input readonly aria-label="command"><button>close</button></div>
<noscript>The pictures need JavaScript; the PNG files beside this page show the same.</noscript>
<script type="text/plain" id="plotly">{get_plotlyjs()}</script>
<script>{_file("page.js")}</script>
</body></html>
"""


def in_script(data: object) -> str:
    """Data as JSON that can stand in a script element: no text in it can end the element or begin a comment."""
    text = json.dumps(finite(data), allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _signs(signs: Sequence[Sign]) -> str:
    kinds = {True: ("good", "yes"), False: ("bad", "look"), None: ("open", "unknown")}
    rows = "".join(
        f'<li class="{kinds[sign.good][0]}"><b>{kinds[sign.good][1]}</b> {_text(sign.text)}</li>' for sign in signs
    )
    return f'<ul class="health">{rows}</ul>' if rows else ""


def _group(pictures: Sequence[Picture], beside: bool) -> str:
    found = "".join(_picture(one) for one in pictures)
    return f'<div class="pair">{found}</div>' if beside else found


def _picture(one: Picture) -> str:
    name = _text(one.name)
    attributes = f'data-figure="figure-{name}" role="img" aria-label="{_text(one.title)}"'
    attributes += " data-exports" if one.exports else ""
    height = one.spec["layout"].get("height", 300)
    return f"""<section><h2>{_text(one.title)}</h2><p class="note">{_text(one.note)}</p>
<div class="plot" style="min-height: {height}px" {attributes}></div>
<script type="application/json" id="figure-{name}">{in_script(one.spec)}</script></section>
"""


def _front(facts: Facts) -> str:
    marked = ["front" if row["front"] else "other" for row in facts.rows]
    return _table(
        ["trial", *header(facts.run)],
        [[str(row["trial"]), *cells(facts.run, row)] for row in facts.rows],
        marked,
    )


def _standings(facts: Facts) -> str:
    metric = facts.run.metric
    found: list[Mapping[str, str]] = [standing_cells(row, metric) for row in facts.standings]
    if not found:
        return f"<p>{_text(one_seed(metric))}</p>"
    table = _table(list(found[0]), [list(row.values()) for row in found], [""] * len(found))
    return f"<h2>{STANDINGS_TITLE}</h2>{table}<p>{_text(how_to_read())}</p>"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]], classes: Iterable[str]) -> str:
    head = "".join(f"<th>{_text(name)}</th>" for name in heading)
    body = "".join(
        f'<tr class="{kind}">' + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>"
        for row, kind in zip(rows, classes, strict=True)
    )
    return f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _text(text: str) -> str:
    return html.escape(printable(text))


def _file(name: str) -> str:
    return (resources.files("launch.reports") / name).read_text(encoding="utf-8")
