import os
import random
import stat
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from nas.costs import (
    Calibration,
    CalibrationDrift,
    CalibrationError,
    Conditions,
    CostModel,
    Protocol,
    calibrate,
    load_calibration,
)
from nas.costs import calibration as module
from nas.costs.calibration import Table, placements_of
from search_spaces import Architecture, load_space

SPACE = load_space("shapes")
CONDITIONS = Conditions(batch_size=2, train_batch_size=2)


def true_ms(architecture: Architecture) -> float:
    """The time on a device where times add up: 10 ms, plus a time for every placement, from its label's length."""
    return 10.0 + sum(count * len(label) / 20 for label, count in placements_of(architecture).items())


@pytest.fixture
def additive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces measurements by `true_ms` with 1 % of noise."""
    rng = np.random.default_rng(0)

    def times(
        architectures: Sequence[Architecture],
        conditions: Conditions,
        mode: str,
        *,
        seconds: float,
        min_rounds: int,
        max_rounds: int = 1000,
    ) -> npt.NDArray[np.float64]:
        exact = np.array([true_ms(architecture) for architecture in architectures])
        return exact * rng.lognormal(0, 0.01, (min_rounds, len(architectures)))

    monkeypatch.setattr(module, "time_together", times)
    monkeypatch.setattr(module, "reference_ms", lambda conditions: 1.0)


def test_predicts_unseen_networks_of_an_additive_device(additive: None) -> None:
    found = calibrate(SPACE, CONDITIONS, measures=["latency_ms"])
    rng = random.Random(9)
    unseen = [SPACE.sample(rng) for _ in range(60)]
    estimates = [found.predict(network, "latency_ms") for network in unseen]
    exact = np.array([true_ms(network) for network in unseen])
    assert np.abs(np.array([e.value for e in estimates]) / exact - 1).mean() < 0.02
    assert np.mean([e.lower <= t <= e.upper for e, t in zip(estimates, exact, strict=True)]) >= 0.85
    assert {e.source for e in estimates} == {"predicted"}


def test_what_was_saved_is_loaded(additive: None, tmp_path: Path) -> None:
    path = tmp_path / "calibration" / "cpu.yaml"
    found = calibrate(SPACE, CONDITIONS, measures=["latency_ms"], protocol=Protocol(fitted=2, held_out=3))
    found.save(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_calibration(path, CONDITIONS) == found
    assert CostModel(CONDITIONS, calibration=path).estimate(SPACE.plain(), "latency_ms").source == "predicted"


def saved(tmp_path: Path, **update: object) -> Path:
    fields = {
        "device": module.fingerprint("cpu"),
        "conditions": CONDITIONS.to_dict(),
        "skeleton": SPACE.skeleton.model_dump(mode="json"),
        "protocol": Protocol(),
        "reference_ms": 1.0,
        "tables": {"latency_ms": Table(plain_ms=10, scale=1, ratios=(0.95, 1.05), entries={})},
    }
    path = tmp_path / "cpu.yaml"
    Calibration(**{**fields, **update}).save(path)
    return path


def test_another_device_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, device={**module.fingerprint("cpu"), "device": "abacus"})
    with pytest.raises(CalibrationError, match=r"device was abacus, is .*nas calibrate"):
        load_calibration(path, CONDITIONS)


def test_other_conditions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="batch_size was 2, is 3"):
        load_calibration(saved(tmp_path), Conditions(batch_size=3, train_batch_size=2))


def test_an_average_of_the_weights_changes_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "reference_ms", lambda conditions: 1.0)
    load_calibration(saved(tmp_path), replace(CONDITIONS, averaged=True))


@pytest.mark.parametrize("now", [1.06, 0.9])
def test_drift_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr(module, "reference_ms", lambda conditions: now)
    with pytest.warns(CalibrationDrift, match="nas calibrate"):
        load_calibration(saved(tmp_path), CONDITIONS)


def test_another_skeleton_is_not_predicted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "reference_ms", lambda conditions: 1.0)
    found = load_calibration(saved(tmp_path), CONDITIONS)
    assert found.predict(SPACE.plain(), "latency_ms").value == 10
    assert found.predict(load_space("cifar-resnet").plain(), "latency_ms") is None
    assert found.predict(SPACE.baselines()["se"], "latency_ms") is None


def test_measurements_correct_the_table() -> None:
    label = "refine: se"
    table = Table(plain_ms=10, scale=1, ratios=(0.99, 1.0, 1.01), entries={label: 2.0})
    for _ in range(30):
        table = table.learn({label: 1}, 15.0)
    assert table.predict({label: 1})[0] == pytest.approx(15, rel=0.02)
    assert len(table.ratios) == 33


def test_the_scale_leaves_the_plain_time_alone() -> None:
    table = Table(plain_ms=10, scale=1.5, ratios=(1.0,), entries={"refine: se": 0.2})
    assert table.predict({"refine: se": 2})[0] == pytest.approx(10.6)
    assert table.predict({})[0] == 10


def test_equal_blocks_share_an_entry() -> None:
    space = load_space("cifar-resnet")
    se = space.baselines()["se"]
    first, second = (Architecture(space.skeleton, {block: se.placements[block]}) for block in ("layer1.1", "layer1.2"))
    assert placements_of(first) == placements_of(second)
    assert sum(placements_of(se).values()) == len(se.blocks)


def test_a_link_or_a_device_is_written_and_not_replaced(tmp_path: Path) -> None:
    calibration = Calibration(device={}, conditions={}, skeleton={}, protocol=Protocol(), reference_ms=1.0, tables={})
    for name, target in (("device", Path(os.devnull)), ("link", tmp_path / "folder" / "target.yaml")):
        (tmp_path / name).symlink_to(target)
        calibration.save(tmp_path / name)
        assert (tmp_path / name).readlink() == target
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert (tmp_path / "folder" / "target.yaml").read_text().startswith("schema: 1")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["target.yaml"]
