"""The report as one HTML file that needs nothing else: pictures to explore, then the tables."""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from itertools import groupby
from pathlib import Path

from plotly.offline import get_plotlyjs

from launch.reports.answer import listed
from launch.reports.comparison import (
    EFFECTS_TITLE,
    RUNS_TITLE,
    SETTINGS_TITLE,
    Comparison,
    effect_rows,
    run_rows,
    same_text,
    sentences,
    settings_rows,
)
from launch.reports.facts import Facts
from launch.reports.figures import Picture
from launch.reports.health import Sign
from launch.reports.prose import (
    FRONT_TITLE,
    PAIRS_TITLE,
    STANDINGS_TITLE,
    cells,
    header,
    heading,
    how_to_read,
    one_seed,
    pair_cells,
    pairs_text,
    paragraphs,
    said,
    standing_cells,
)
from launch.reports.tables import finite
from search_spaces.errors import named, printable, typed


def page(facts: Facts, pictures: Sequence[Picture], signs: Sequence[Sign]) -> str:
    """The page of a run."""
    return _document(
        facts.run.space.name or named(facts.run.folder.name),
        heading(facts),
        said(facts),
        f"""{_signs(signs)}
{_paragraphs(paragraphs(facts))}
{_pictures(pictures)}
<section><h2>{FRONT_TITLE}</h2>{_front(facts)}</section>
<section>{_standings(facts)}</section>
{_pairs(facts)}
<noscript>The pictures need JavaScript; the PNG files beside this page show the same.</noscript>""",
        [facts.run.folder],
    )


def comparison_page(found: Comparison, pictures: Sequence[Picture]) -> str:
    """The page of several runs side by side."""
    effects = effect_rows(found, found.effects)
    return _document(
        f"{listed([side.name for side in found.sides])} compared",
        listed([side.name for side in found.sides]),
        sentences(found),
        f"""{_paragraphs(found.notes)}
<section><h2>{RUNS_TITLE}</h2>{_rows(run_rows(found))}</section>
<section><h2>{SETTINGS_TITLE}</h2>{_rows(settings_rows(found))}<p>{_text(same_text(found))}</p></section>
{_pictures(pictures)}
<section><h2>{EFFECTS_TITLE}</h2>{_rows(effects)}</section>
<noscript>The pictures need JavaScript.</noscript>""",
        [side.facts.run.folder for side in found.sides],
    )


def _document(title: str, top: str, told: Sequence[str], body: str, folders: Sequence[Path]) -> str:
    """A page that begins with its sentences, the first one large. ``folders``: of the runs whose trials it draws."""
    first, *others = told
    commands = json.dumps([f"nas export {typed(folder)}" for folder in folders])
    return f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{_text(title)}</title>
<link rel="icon" href="data:,">
<style>{_file("page.css")}</style>
<body data-commands="{_text(commands)}">
<h1>{_text(top)}</h1>
<p class="answer">{_text(first)}</p>
<p>{_text(" ".join(others))}</p>
{body}
<div id="told" role="status" hidden><span></span><input readonly aria-label="command"><button>close</button></div>
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


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{_text(text)}</p>" for text in texts)


def _pictures(pictures: Sequence[Picture]) -> str:
    return "".join(_group(list(group), beside) for beside, group in groupby(pictures, lambda one: one.beside))


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
    found = [standing_cells(row, metric) for row in facts.standings]
    if not found:
        return f"<p>{_text(one_seed(metric))}</p>"
    return f"<h2>{STANDINGS_TITLE}</h2>{_rows(found)}<p>{_text(how_to_read())}</p>"


def _pairs(facts: Facts) -> str:
    found = pair_cells(facts)
    table = f"<section><h2>{PAIRS_TITLE}</h2>{_rows(found)}</section>" if found else ""
    return table + _paragraphs(filter(None, [pairs_text(facts)]))


def _rows(found: Sequence[Mapping[str, str]]) -> str:
    """A table of rows that have the same keys; nothing without a row."""
    return _table(list(found[0]), [list(row.values()) for row in found], [""] * len(found)) if found else ""


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
