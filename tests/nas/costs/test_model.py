from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from nas.costs import MEASURES, Conditions, CostModel, count
from nas.costs import model as module
from nas.costs.timing import alternate, ratio, thread_clock, threads
from search_spaces import Architecture, load_space

SPACE = load_space("shapes")
SE = SPACE.baselines()["se"]


def test_every_measure_has_its_unit_and_source(tmp_path: Path) -> None:
    costs = CostModel(Conditions(batch_size=2, train_batch_size=2), cache=tmp_path / "costs.jsonl")
    sources = {measure: costs.estimate(SE, measure).source for measure in MEASURES}
    assert sources == {
        "params": "analytic",
        "macs": "analytic",
        "peak_memory_infer": "analytic",
        "peak_memory_train": "analytic",
        "latency_ms": "measured",
        "train_step_ms": "measured",
    }
    assert costs.estimate(SE, "params").value == count(SE).params


def test_no_figure_is_computed_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "costs.jsonl"
    conditions = Conditions(batch_size=2, train_batch_size=2)
    first = CostModel(conditions, cache=path)
    known = {measure: first.estimate(SE, measure) for measure in ("peak_memory_train", "latency_ms")}
    for name in ("simulate", "time_together"):
        monkeypatch.setattr(module, name, lambda *args, **kwargs: pytest.fail("worked out again"))
    second = CostModel(conditions, cache=path)
    assert {measure: second.estimate(SE, measure) for measure in known} == known


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({"train_batch_size": 4}, {"peak_memory_train"}),
        ({"batch_size": 4}, {"peak_memory_infer"}),
        ({"optimizer": "adamw"}, {"peak_memory_train"}),
        ({"dtype": "bfloat16"}, {"peak_memory_infer", "peak_memory_train"}),
        ({"averaged": True}, {"peak_memory_train"}),
    ],
)
def test_figures_of_other_conditions_are_not_used(tmp_path: Path, change: dict[str, Any], again: set[str]) -> None:
    path = tmp_path / "costs.jsonl"
    conditions = {"batch_size": 2, "train_batch_size": 2}
    for measure in ("peak_memory_infer", "peak_memory_train"):
        CostModel(Conditions(**conditions), cache=path).record(SE, measure, 1.0)
    other = CostModel(Conditions(**{**conditions, **change}), cache=path)
    changed = {m for m in ("peak_memory_infer", "peak_memory_train") if other.estimate(SE, m).value != 1.0}
    assert changed == again


def test_a_value_from_training_replaces_the_estimate() -> None:
    costs = CostModel(Conditions(train_batch_size=2))
    analytic = costs.estimate(SE, "peak_memory_train").value
    costs.record(SE, "peak_memory_train", 2 * analytic)
    seen = costs.estimate(SE, "peak_memory_train")
    assert (seen.value, seen.source) == (2 * analytic, "measured")


def test_memory_above_its_bound_widens_later_bounds() -> None:
    costs = CostModel(Conditions(train_batch_size=2))
    others = Architecture(SE.skeleton)
    below = costs.estimate(SE, "peak_memory_train")
    costs.record(SE, "peak_memory_train", below.value)  # equals the estimate
    costs.record(SE, "peak_memory_train", 1.5 * below.value)  # a measured figure does not widen bounds
    narrow = CostModel(Conditions(train_batch_size=2)).estimate(others, "peak_memory_train")
    assert costs.estimate(others, "peak_memory_train") == narrow
    fresh = CostModel(Conditions(train_batch_size=2))
    fresh.record(SE, "peak_memory_train", 1.5 * fresh.estimate(SE, "peak_memory_train").value)
    wide = fresh.estimate(others, "peak_memory_train")
    assert (wide.value, wide.lower) == (narrow.value, narrow.lower)
    assert wide.upper == pytest.approx(1.5 * wide.value)


def test_times_are_ratios_to_the_plain_skeleton(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {"factor": 1.0}

    def times(
        architectures: Sequence[Architecture], conditions: Conditions, mode: str, *, seconds: float, min_rounds: int
    ) -> npt.NDArray[np.float64]:
        exact = np.array([30.0 if architecture == SE else 20.0 for architecture in architectures])
        return slow["factor"] * np.tile(exact, (min_rounds, 1))

    monkeypatch.setattr(module, "time_together", times)
    costs = CostModel(Conditions())
    assert costs.estimate(SPACE.plain(), "latency_ms").value == 20
    slow["factor"] = 3.0  # other work on the machine
    assert costs.measure(SE, "latency_ms").value == pytest.approx(30)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"device": "tpu"}, "'tpu'.*cpu, cuda"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"train_batch_size": 10, "micro_batches": 4}, r"10.*micro_batches \(4\)"),
        ({"optimizer": "lion"}, "'lion'.*sgd, adamw"),
    ],
)
def test_impossible_conditions_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){said}"):
        Conditions(**wrong)


def test_ratio_is_not_moved_by_bursts() -> None:
    times = np.tile([20.0, 10.0], (12, 1))
    times[::3, 0] *= 5
    found = ratio(times)
    assert found.value == pytest.approx(2)
    assert found.lower <= 2 <= found.upper


def test_ratio_favours_the_shorter_run_less_than_the_fastest_rounds_do() -> None:
    """Every millisecond is equally likely to be disturbed, so a short run fits between two disturbances more often."""
    disturbed = 1 + np.random.default_rng(0).exponential(0.3, (400, 11))
    times = np.stack([disturbed[:, :10].sum(axis=1), disturbed[:, 10]], axis=1)
    by_fastest = np.quantile(times, 0.05, axis=0)
    assert 10 < ratio(times).value < by_fastest[0] / by_fastest[1]


def turns(count: int, rounds: int) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Times of functions that take 5 ms plus their index, and the order in which they ran."""
    calls: list[int] = []
    runs = [partial(calls.append, i) for i in range(count)]
    times = alternate(runs, lambda run, _: run() or 5.0 + calls[-1], 0, rounds, rounds)
    return times, calls[2 * count :]


def test_runs_take_turns() -> None:
    times, order = turns(2, 3)
    assert times.shape == (3, 2)
    assert all(sorted(order[i : i + 2]) == [0, 1] for i in range(0, 6, 2))


def test_the_order_changes_between_rounds() -> None:
    times, order = turns(4, 30)
    assert (times == [5, 6, 7, 8]).all(), "a time stands in another one's column"
    assert all(sorted(order[i : i + 4]) == [0, 1, 2, 3] for i in range(0, 120, 4))
    assert set(pairwise(order)) >= set(permutations(range(4), 2))
    assert turns(4, 30)[1] == order


@pytest.mark.parametrize("functions", [2, 3])
def test_a_function_also_follows_itself(functions: int) -> None:
    """In a strict alternation of two, the smaller would always run on the caches that the larger leaves."""
    rounds = 600
    times, order = turns(functions, rounds)
    assert times.shape == (rounds, functions)
    for start in range(0, len(order), functions):
        assert sorted(order[start : start + functions]) == list(range(functions))
    follows = Counter(pairwise(order))
    assert all(follows[one, one] > rounds / (2 * functions**2) for one in range(functions)), follows


def test_threads_restores_the_former_number() -> None:
    before = torch.get_num_threads()
    with threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    assert thread_clock(lambda: None, 1) >= 0
