import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects
import pytest

from launch.reports import drawn, figures, html, report
from launch.reports.comparison import compared
from launch.reports.facts import Facts, facts_of
from launch.reports.health import health
from launch.reports.prose import PAIRS_TITLE, heading, markdown, paragraphs, said
from launch.rundir.run import Run, open_run
from nas.analysis.answer import Answer, PairEffect, Place
from nas.analysis.intervals import Interval
from nas.search import Metric, TrialRecord
from nas.search.records import Judgement
from search_spaces.errors import typed

MakeAnswer = Callable[[Run, Sequence[TrialRecord]], Answer]
EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>%{y}\x1b[31m"


class Parsed(HTMLParser):
    """The elements of a page, and the text of its scripts and of the rest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text = ""
        self._script: dict[str, str | None] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs) if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        else:
            self.scripts.append((self._script, data))

    def figures(self) -> dict[str, Any]:
        """The JSON of each figure, by its element's id."""
        return {
            str(attrs["id"]): json.loads(text)
            for attrs, text in self.scripts
            if attrs.get("type") == "application/json"
        }


@pytest.fixture
def facts(whole: Run) -> Facts:
    return facts_of(*open_run(whole.folder))


@pytest.fixture
def answer(facts: Facts, make_answer: MakeAnswer) -> Answer:
    return make_answer(facts.run, facts.trials)


def page_of(facts: Facts, answer: Answer | None) -> Parsed:
    facts = replace(facts, answer=answer)
    return Parsed(html.page(facts, figures.pictures(facts), health(facts)))


def traces(spec: figures.Spec, kind: str) -> list[Any]:
    return [trace for trace in spec["data"] if trace["type"] == kind]


def test_every_figure_of_the_page_is_one_that_plotly_reads(facts: Facts, answer: Answer) -> None:
    page = page_of(facts, answer)
    found = page.figures()
    assert {
        "figure-map",
        "figure-per-cost",
        "figure-front-macs",
        "figure-front-params",
        "figure-curves",
    } <= found.keys()
    for spec in found.values():
        plotly.graph_objects.Figure(spec)  # raises a ValueError for what plotly does not know
    drawn_there = {attrs["data-figure"] for tag, attrs in page.tags if "data-figure" in attrs}
    assert drawn_there == found.keys()
    assert f"Take trial {answer.take} " in page.text


def test_the_page_needs_no_other_file(facts: Facts, answer: Answer) -> None:
    page = page_of(facts, answer)
    assert not any("src" in attrs for _, attrs in page.tags)
    assert [attrs["href"] for tag, attrs in page.tags if tag == "link"] == ["data:,"]
    [script] = [text for attrs, text in page.scripts if not attrs]
    assert 'plotlyServerURL: ""' in script
    assert 'modeBarButtonsToRemove: ["sendChartToCloud",' in script


def test_a_run_without_answer_has_its_fronts_and_curves(facts: Facts) -> None:
    assert {"front-macs", "front-params", "curves"} <= {
        one.name for one in figures.pictures(replace(facts, answer=None))
    }
    assert not {"map", "per-cost"} & {one.name for one in figures.pictures(replace(facts, answer=None))}


def test_the_png_files_show_the_answer_too(facts: Facts, answer: Answer) -> None:
    """Both kinds of pictures have the same cells."""
    table = drawn.placement_map(answer, facts.run.space).as_table(100)
    assert sum(map(len, table.values())) == len(answer.effects)
    axes, *_ = report.figures(replace(facts, answer=answer))["effects"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == list(table)


def test_the_map_has_a_cell_for_each_effect_and_unsure_ones_are_faint(facts: Facts, answer: Answer) -> None:
    table = drawn.placement_map(answer, facts.run.space)
    assert len(table.cells) == len(answer.effects)
    spec = figures.placement_map(table, facts.run.metric)
    sure, unsure = traces(spec, "heatmap")
    assert sure["opacity"] == 1 > unsure["opacity"]
    for (row, column), effect in table.cells.items():
        here, there = (sure, unsure) if effect.gain.sign else (unsure, sure)
        assert here["z"][row][column] == pytest.approx(100 * effect.gain.value)
        assert there["z"][row][column] is None
        said = here["hovertext"][row][column]
        assert f"{effect.trainings} training" in said
        assert ("the sign is known" in said) == (effect.more == 0)
    places = [block.name for block in facts.run.space.blocks]
    assert list(table.rows) == sorted(table.rows, key=lambda row: next(i for i, b in enumerate(places) if row in b))


def test_gains_per_cost_are_sorted_by_their_lower_bound(facts: Facts, answer: Answer) -> None:
    spec = figures.gain_per_cost(answer.effects, facts.run.metric)
    assert [trace["visible"] for trace in spec["data"]] == [True, False]
    for trace in spec["data"]:
        lows = [x - less for x, less in zip(trace["x"], trace["error_x"]["arrayminus"], strict=True)]
        assert lows == sorted(lows)
        assert len(lows) == sum(effect.costs["macs"] > 0 for effect in answer.effects)


def test_the_front_shows_every_trained_trial_with_its_mean_and_costs(facts: Facts, answer: Answer) -> None:
    dots = drawn.dots(replace(facts, answer=answer))
    order = drawn.options_of(facts.run.space, facts.trials)
    spec = figures.front(dots, order, "macs", facts.run.metric, facts.run.limits["macs"])
    shown = {
        number: (x, y, said)
        for trace in spec["data"]
        if "customdata" in trace
        for number, x, y, said in zip(trace["customdata"], trace["x"], trace["y"], trace["hovertext"], strict=True)
    }
    trained = [t for t in facts.trials if t.epochs and not t.origin.is_finalist]
    assert shown.keys() == {trial.number for trial in trained}
    means = {standing.trial.number: standing.mean.value for standing in answer.standings}
    for trial in trained:
        x, y, said = shown[trial.number]
        assert x == pytest.approx(trial.costs["macs"].value / 1e6)
        assert y == pytest.approx(100 * means.get(trial.number, trial.latest("top1") or 0))
        assert ("stopped early" in said) == (trial.status == "stopped")
    named = {name for trace in spec["data"] if trace["name"] == "baseline" for name in trace["text"]}
    assert named == {t.origin.name for t in trained if t.origin.is_baseline}
    assert any(
        shape["type"] == "rect" and shape["x0"] == facts.run.limits["macs"] / 1e6 for shape in spec["layout"]["shapes"]
    )
    legend = [trace["legendgroup"] for trace in spec["data"] if "legendgroup" in trace and trace["showlegend"]]
    assert len(legend) == len(set(legend))


@pytest.mark.parametrize(
    ("options", "main"),
    [([], "plain"), (["se"], "se"), (["se", "aa", "se"], "se"), (["se", "aa"], "aa"), (["aw", "se", "se", "aw"], "se")],
)
def test_a_network_has_the_colour_of_its_most_frequent_option(options: list[str], main: str) -> None:
    assert drawn.main_option(options, ("plain", "aa", "se", "aw")) == main


def test_curves_are_thinned_but_keep_the_front(facts: Facts) -> None:
    everything, of = drawn.curves(facts, 1000)
    assert len(everything) == of
    few, of_few = drawn.curves(facts, 0)
    assert of_few == of > len(few)
    baselines = {trial.number for trial in facts.trials if trial.origin.is_baseline and trial.epochs}
    assert {curve.trial for curve in few} == baselines | {trial.number for trial in facts.front}
    some, _ = drawn.curves(facts, len(few) + 2)
    assert len(some) == len(few) + 2


def test_growth_counts_the_epochs_of_stopped_trials(facts: Facts) -> None:
    series = drawn.growth(facts)
    complete = [t for t in facts.trials if t.status == "complete" and not t.origin.is_finalist]
    assert [one.trials for one in series] == list(range(1, len(complete) + 1))
    for one, trial in zip(series, complete, strict=True):
        until = [t for t in facts.trials if t.number <= trial.number and not t.origin.is_finalist]
        assert one.epochs == sum(len(t.epochs) for t in until)
    left, right = figures.growth(series)["data"]
    assert left["y"] == right["y"] == [one.hypervolume for one in series]


def test_a_relaxed_limit_admits_what_is_over_it_alone_and_by_little(facts: Facts) -> None:
    def over(**violations: float) -> TrialRecord:
        judged = Judgement(feasible=False, stage="static", violations=violations)
        return replace(facts.trials[0], status="rejected", budget=judged)

    trials = [over(macs=0.05, params=-0.2), over(macs=0.05, params=0.05), over(macs=0.3), over(params=0.1, macs=0.0)]
    rows = {row.measure: row for row in drawn.refused(replace(facts, trials=trials))}
    assert (rows["macs"].over, rows["macs"].relaxed) == (3, 1)
    assert (rows["params"].over, rows["params"].relaxed) == (2, 1)


def test_pairs_that_matter_are_shown_and_without_one_a_line_says_so(facts: Facts, answer: Answer) -> None:
    assert "No two placements are seen" in page_of(facts, answer).text
    assert "No two placements are seen" in markdown(replace(facts, answer=answer), [])
    first, second = answer.effects[0].place, answer.effects[-1].place
    gains = [0.01 * (n + 1) for n in range(14)]
    pairs = tuple(PairEffect(first, second, Interval(gain, gain - 0.005, gain + 0.005)) for gain in gains)
    told = replace(facts, answer=replace(answer, pairs=pairs))
    page = page_of(told, told.answer).text
    for text in (page, markdown(told, [])):
        assert PAIRS_TITLE in text
        assert "14.0 points (13.5 to 14.5)" in text
        assert text.index("14.0 points") < text.index("13.0 points")
        assert "2.0 points (1.5" not in text
        assert "2 more pairs are in nas report --json." in text
        assert "No two placements are seen" not in text


def test_the_page_has_the_paragraphs_of_the_markdown(facts: Facts) -> None:
    text = page_of(facts, None).text
    found = [*paragraphs(facts), heading(facts)]
    assert len(found) > 2
    assert all(one in text and one in markdown(facts, []) for one in found)


def test_the_sign_and_the_answer_word_the_baseline_alike(facts: Facts, answer: Answer) -> None:
    words = {1: "is better than", 0: "cannot be told from", -1: "is worse than"}
    for gain, margin in ((0.02, 0.01), (0.0, 0.01), (-0.02, 0.01)):
        over = Interval(gain, gain - margin, gain + margin)
        told = replace(answer, over_baseline=over, baseline_best=0.004)
        sign = health(replace(facts, answer=told))[0]
        assert sign.good is {1: True, 0: None, -1: False}[over.sign]
        phrase = sign.text.removeprefix(f"Trial {told.take} ").removesuffix(".")
        assert phrase.startswith(words[over.sign])
        assert f": it {phrase}" in " ".join(said(replace(facts, answer=told)))


def test_health_says_baseline_length_and_stability(facts: Facts, answer: Answer) -> None:
    signs = health(replace(facts, answer=answer))
    assert [sign.good for sign in signs] == [True, True, None]
    seeds = [replace(standing, values=(0.5, 0.6)) for standing in answer.standings]
    level = replace(answer, standings=tuple(seeds), over_baseline=Interval(0.0, -0.1, 0.1))
    short = replace(facts, gaining=[{"option": "aa", "gain": 0.1, "low": 0.05, "high": 0.15, "trials": 4}])
    signs = health(replace(short, answer=level))
    assert [sign.good for sign in signs] == [None, False, False]
    assert "aa" in signs[1].text
    assert str(answer.standings[1].trial.number) in signs[2].text
    assert health(replace(short, answer=None)) == [signs[1]]


def hostile(facts: Facts, make_answer: MakeAnswer) -> Facts:
    """The run with `EVIL` wherever a name can be a stranger's."""
    run = facts.run
    space = replace(run.space, name=EVIL)
    told = Metric.model_construct(**{**run.metric.model_dump(), "label": EVIL, "unit": EVIL})
    strange = replace(run, folder=run.folder / EVIL, space=space, metric=told)
    trials = [
        replace(trial, origin=replace(trial.origin, name=EVIL if trial.origin.is_baseline else ""), reason=EVIL)
        for trial in facts.trials
    ]
    answer = make_answer(run, trials)
    effects = tuple(
        replace(one, place=Place(EVIL, one.place.blocks, one.place.slot, EVIL + one.place.option))
        for one in answer.effects
    )
    rows = [{**row, "origin": EVIL, "summary": EVIL} for row in facts.rows]
    standings = [{**row, "origin": EVIL} for row in facts.standings]
    answer = replace(answer, effects=effects)
    return replace(facts, run=strange, trials=trials, rows=rows, standings=standings, answer=answer)


def check_harmless(page: Parsed, harmless: Parsed) -> None:
    """A page with `EVIL` has the elements of the one without, and none of its text is markup for plotly."""
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in harmless.tags]
    assert "alert(1)" in page.text
    assert "\x1b" not in page.text + "".join(map(str, page.tags))
    for spec in page.figures().values():
        for text in strings(spec):
            assert "<script" not in text
            assert "<img" not in text
            assert "\x1b" not in text
            assert "%{y}" not in text.replace("%{y:", "")


def test_no_name_of_a_stranger_becomes_markup(facts: Facts, make_answer: MakeAnswer) -> None:
    strange = hostile(facts, make_answer)
    check_harmless(page_of(strange, strange.answer), page_of(facts, make_answer(facts.run, facts.trials)))


def test_a_comparison_of_strangers_runs_has_no_markup_of_theirs(facts: Facts, make_answer: MakeAnswer) -> None:
    def page(*runs: Facts) -> Parsed:
        found = compared([(Path(one.run.folder.name), one) for one in runs])
        return Parsed(html.comparison_page(found, figures.comparison_pictures(found)))

    def other(one: Facts, of: Path) -> Facts:
        return replace(one, run=replace(one.run, folder=of / one.run.folder.name))

    plain = replace(facts, answer=make_answer(facts.run, facts.trials))
    strange = hostile(facts, make_answer)
    there = facts.run.folder / "there"
    found = page(strange, other(strange, there))
    check_harmless(found, page(plain, other(plain, there)))
    (body,) = [attributes for tag, attributes in found.tags if tag == "body"]
    assert [typed(strange.run.folder) in one for one in json.loads(body["data-commands"] or "")] == [True, False]


def test_the_fronts_of_runs_lie_over_one_another(facts: Facts, make_answer: MakeAnswer) -> None:
    dots = drawn.dots(replace(facts, answer=make_answer(facts.run, facts.trials)))
    few = [replace(dot, mean=dot.mean + 5) for dot in dots[:3]]
    last = 1e6 * max(dot.costs["macs"] for dot in dots)
    spec = figures.fronts([("A a", dots, last), ("B b", few, 2 * last)], "macs", facts.run.metric)
    (line,) = spec["layout"]["shapes"]  # the limit of B would press all networks together
    assert line["x0"] == pytest.approx(last / 1e6)
    plotly.graph_objects.Figure(spec)
    for run, found in enumerate((dots, few)):
        here = [trace for trace in spec["data"] if trace.get("meta") == run]
        assert len({trace["marker"]["color"] for trace in here}) == 1
        trials = sorted(number for trace in here for number in trace["customdata"])
        assert trials == sorted(dot.trial for dot in found if dot.state != "stopped")
        (strong,) = [trace for trace in here if "error_y" in trace]
        steps = drawn.staircase(found, "macs", higher_is_better=True)
        assert sorted(strong["customdata"]) == sorted(dot.trial for dot in steps)
        assert [trace["showlegend"] for trace in here].count(True) == 1


def test_each_effect_has_a_dot_with_its_interval_for_each_run(facts: Facts, make_answer: MakeAnswer) -> None:
    answer = make_answer(facts.run, facts.trials)
    rows = [({0: effect, 1: effect}, "both say so") for effect in answer.effects[:-1]]
    rows.append(({1: answer.effects[-1]}, "only in B"))
    first, second = figures.effects_beside(rows, ["A a", "B b"], facts.run.metric)["data"]
    assert (len(first["x"]), len(second["x"])) == (len(rows) - 1, len(rows))
    assert first["x"] == pytest.approx([100 * effect.gain.value for effect in answer.effects[:-1]])
    for row, (at, below, text) in enumerate(zip(first["y"], second["y"], first["hovertext"], strict=False)):
        assert row - 0.5 < at < row < below < row + 0.5
        assert "both say so" in text
    known = [effect.gain.sign != 0 for effect in answer.effects]
    assert ["open" not in symbol for symbol in second["marker"]["symbol"]] == known


def strings(data: object) -> list[str]:
    """Every text in JSON data, except those that name groups and are never shown."""
    if isinstance(data, dict):
        return [text for key, value in data.items() if key != "legendgroup" for text in strings(value)]
    if isinstance(data, list):
        return [text for value in data for text in strings(value)]
    return [data] if isinstance(data, str) else []
