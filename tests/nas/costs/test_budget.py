from dataclasses import dataclass, field

import pytest

from nas.costs import Budget, CostEstimate, Measure, Source, Verdict
from search_spaces import Architecture, load_space

PLAIN = load_space("shapes").plain()


@dataclass
class Figures:
    """A cost model with given figures; those in ``measured`` are known only after a measurement."""

    static: dict
    measured: dict = field(default_factory=dict)
    ran: list = field(default_factory=list)

    def must_measure(self, architecture: Architecture, measure: Measure) -> bool:
        return measure not in self.static

    def estimate(self, architecture: Architecture, measure: Measure) -> CostEstimate:
        return self.static[measure] if measure in self.static else self.measure(architecture, measure)

    def measure(self, architecture: Architecture, measure: Measure) -> CostEstimate:
        self.ran.append(measure)
        return self.measured[measure]


def figure(value: float, spread: float = 0.0, source: Source = "analytic") -> CostEstimate:
    return CostEstimate(value, value - spread, value + spread, "", source)


def check(limits: dict[Measure, float], **figures: dict[Measure, CostEstimate]) -> tuple[Verdict, list[Measure]]:
    costs = Figures(**figures)
    return Budget(limits, costs).check(PLAIN), costs.ran


@pytest.mark.parametrize(
    ("written", "measure", "limit"),
    [
        ("8 GiB", "peak_memory_train", 8 * 2**30),
        ("500MB", "peak_memory_infer", 5e8),
        ("12 ms", "latency_ms", 12),
        ("0.5s", "train_step_ms", 500),
        ("25.6 M", "params", 25.6e6),
        ("1.2 G", "macs", 1.2e9),
        (1e6, "params", 1e6),
        ("1.5x", "params", 150),
    ],
)
def test_limits_are_read(written: str | float, measure: Measure, limit: float) -> None:
    costs = Figures({"params": figure(100)})
    assert Budget.parse({measure: written}, plain=PLAIN, costs=costs).limits == {measure: pytest.approx(limit)}


def test_all_problems_are_reported_at_once() -> None:
    with pytest.raises(ValueError, match="budget") as caught:
        Budget.parse(
            {"latency": "3", "params": "8 GiB", "macs": "-1", "latency_ms": "fast"}, plain=PLAIN, costs=Figures({})
        )
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "budget.latency", "budget.params", "budget.macs", "budget.latency_ms",
    ]  # fmt: skip
    assert "'8 GiB'" in lines[1]
    assert "K, M, G, T" in lines[1]
    assert "1.25x" in lines[3]


def test_a_network_over_a_static_limit_is_never_measured() -> None:
    verdict, ran = check({"params": 10, "latency_ms": 5}, static={"params": figure(11)}, measured={})
    assert (verdict.feasible, verdict.stage, ran) == (False, "static", [])
    assert verdict.violations == {"params": pytest.approx(0.1)}


def test_only_undecided_networks_are_measured() -> None:
    predicted = {"latency_ms": figure(10, 1, "predicted")}
    sure, ran = check({"latency_ms": 12}, static=predicted)
    assert (sure.feasible, sure.stage, ran) == (True, "predicted", [])
    broken, ran = check({"latency_ms": 8}, static=predicted)
    assert (broken.feasible, broken.stage, ran) == (False, "predicted", [])
    for limit, feasible in ((10.5, True), (9.8, False)):
        verdict, ran = check(
            {"latency_ms": limit}, static=predicted, measured={"latency_ms": figure(10, 0.1, "measured")}
        )
        assert (verdict.feasible, verdict.stage, ran) == (feasible, "measured", ["latency_ms"])


def test_feasible_exactly_where_no_violation_is_positive() -> None:
    for value in (9.0, 10.0, 10.1):
        verdict, _ = check({"params": 10}, static={"params": figure(value)})
        assert verdict.feasible == all(violation <= 0 for violation in verdict.violations.values())


def test_every_network_keeps_an_empty_budget() -> None:
    verdict, ran = check({}, static={})
    assert (verdict.feasible, verdict.stage, verdict.violations, ran) == (True, "static", {}, [])
