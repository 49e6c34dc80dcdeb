"""Compares zoo and papers' tables with `tests/golden/zoo.json`, which ``python tests/nas/test_zoo.py`` rewrites."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from nas import build_model, paper_tables
from nas.costs.counting import count
from nas.operators import OPERATORS
from search_spaces import OPTIONS, Site, load_architecture, zoo_names
from search_spaces.options import resolve

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "zoo.json"
REFERENCE = ROOT / "tests" / "golden" / "paper_tables.csv"


def figures() -> dict[str, Any]:
    """The contents of the golden file: true costs of every network, and every row as its table counts."""
    networks = {}
    for name in zoo_names():
        cost = count(load_architecture(name))
        networks[name] = {"params": cost.params, "macs": cost.macs}
    tables = {
        table: {
            row.row: {
                "zoo": row.zoo,
                "params_m": None if row.params_m is None else round(row.params_m, 6),
                "params_match": row.params_match,
                "gflops": None if row.gflops is None else round(row.gflops, 6),
                "gflops_match": row.gflops_match,
            }
            for row in paper_tables.rows(table)
        }
        for table in paper_tables.tables()
    }
    return {"networks": networks, "tables": tables}


def test_all_figures_are_the_golden_ones() -> None:
    golden, now = json.loads(GOLDEN.read_text()), figures()
    for part in ("networks", "tables"):
        assert list(now[part]) == list(golden[part])
        for name, expected in golden[part].items():
            assert now[part][name] == expected, name


def test_names_are_file_names_and_networks_differ() -> None:
    fingerprints: dict[str, str] = {}
    for name in zoo_names():
        architecture = load_architecture(name)
        assert architecture.name == name
        other = fingerprints.setdefault(architecture.fingerprint, name)
        assert other == name, f"{other} and {name} are the same network"


def test_every_network_is_in_a_table_or_has_a_reason() -> None:
    used = {row.zoo for table in paper_tables.tables() for row in paper_tables.rows(table)}
    # From the text of the AA paper; its printed row matches another setting.
    assert set(zoo_names()) - used == {"aa_wide_resnet28_10_cifar100"}


def test_a_row_has_a_reason_exactly_if_a_figure_differs() -> None:
    for table in paper_tables.tables():
        for row in paper_tables.rows(table):
            fails = False in (row.params_match, row.gflops_match)
            assert bool(row.reason) == fails, row


def test_printed_accuracies() -> None:
    rows = {(row.table, row.row): row.results for table in paper_tables.tables() for row in paper_tables.rows(table)}
    assert (
        rows["AA T3", "AA-ResNet-50"] == rows["AA T7", "AA-ResNet-50 Relative"] == {"top-1, %": 77.7, "top-5, %": 93.8}
    )
    assert rows["AA T8", "Relative"] == rows["AA T5", "RetinaNet AA-ResNet-50"]
    assert rows["AW T3", "ResNet101-AW-SE-FPN"] == {"mAP 50-95": 38.45, "mAP 50": 59.7, "mAP 75": 41.86}
    # The AW paper takes its baselines from the CBAM paper, which prints the same networks.
    for cbam, aw in (("ResNet50", "Baseline-ResNet50"), ("ResNet101 + SE", "SE-ResNet101")):
        assert rows["CBAM T4", cbam] == rows["AW T1", aw]
    for (table, row), results in rows.items():
        assert all(0 < figure < 100 for figure in results.values()), (table, row)
        if len(results) == 2:  # the second of two is of the five best guesses
            first, second = results.values()
            assert (first > second) == ("error" in next(iter(results))), (table, row)


def test_the_reason_of_aw_resnet101_is_a_sum() -> None:
    block = count(load_architecture("aw_resnet101")).params - count(load_architecture("resnet101")).params
    stages = {stage: aw_params(width) for stage, width in enumerate((64, 128, 256, 512), 1)}
    blocks = {1: 3, 2: 4, 3: 23, 4: 3}
    assert block == sum(blocks[stage] * stages[stage] for stage in stages)
    printed = 44.95e6 - 44.55e6
    assert abs(sum((blocks | {3: 33})[stage] * stages[stage] for stage in stages) - printed) < 0.005e6


def aw_params(width: int) -> int:
    site = Site("conv", width, width, size=7, kernel_size=3)
    operator, option = OPERATORS["aw"], OPTIONS["aw"]
    plain = OPERATORS["plain"].cost(site, {}).params
    return operator.cost(site, resolve(option, {}, site)).params - plain


def test_an_unknown_table_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no table 'AA T9'; the tables are SE T2"):
        paper_tables.rows("AA T9")


def test_the_reference_is_reached() -> None:
    """Rows marked yes match the printed figure, rows marked no the figure of another calculator."""
    with REFERENCE.open() as file:
        reference = {(line["table"], line["row"]): line for line in csv.DictReader(file)}
    ours = {
        (row.table, row.row): row
        for table in paper_tables.tables()
        for row in paper_tables.rows(table)
        if row.printed_params_m or row.printed_gflops
    }
    assert list(ours) == list(reference)
    for key, row in ours.items():
        line = reference[key]
        for printed, own, reached, matches, expected in (
            (line["params_m"], row.params_m, line["reached_params_m"], row.params_match, line["params_match"]),
            (line["gflops"], row.gflops, line["reached_gflops"], row.gflops_match, line["gflops_match"]),
        ):
            if not printed:
                assert matches is None, key
            elif expected.startswith("yes"):
                assert matches, key
            else:
                assert matches is False, key
                assert own == pytest.approx(float(reached), abs=6e-6), key


@pytest.mark.parametrize("name", [name for name in zoo_names() if "101" not in name and "152" not in name])
def test_networks_have_the_parameters_that_are_counted(name: str) -> None:
    architecture = load_architecture(name)
    model = build_model(architecture, device="meta")
    assert sum(parameter.numel() for parameter in model.parameters()) == count(architecture).params


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(figures(), indent=1) + "\n")
