"""Tests `nas cost`, `nas calibrate` and `nas proxies`."""

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from launch import cli
from launch.rundir.config import RunConfig
from launch.rundir.run import Run
from launch.session import conditions_of
from nas.costs import Calibration, Conditions, Protocol, load_calibration
from nas.costs import calibration as calibration_module
from nas.costs.device import fingerprint
from nas.costs.measure import block_shares
from search_spaces import Architecture, load_space

RUN = """\
space: shapes
data: {name: shapes, train_size: 128, val_size: 64}
trainer: {epochs: 2, batch_size: 8}
budget: {latency_ms: 2x}
"""

TINY = "schema: 1\nskeleton: {family: mobilenet_v1, image_size: 32, num_classes: 10}\n"
"""Its last maps have one pixel."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "run.yaml").write_text(RUN)
    (tmp_path / "tiny.yaml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replaces measurements: every network takes ten ms plus one ms per placement."""

    def times(
        architectures: Sequence[Architecture], *_args: object, min_rounds: int, **_rest: object
    ) -> npt.NDArray[np.float64]:
        placements = [sum(map(len, architecture.placements.values())) for architecture in architectures]
        noise = np.random.default_rng(0).lognormal(0, 0.01, (min_rounds, len(architectures)))
        return (10.0 + np.array(placements)) * noise

    monkeypatch.setattr(calibration_module, "time_together", times)
    monkeypatch.setattr(calibration_module, "reference_ms", lambda _conditions: 1.0)


@pytest.mark.usefixtures("folder", "quick")
def test_a_calibration_serves_the_run_it_was_made_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["calibrate", "run.yaml"]) == cli.SUCCESS
    printed = capsys.readouterr().out
    assert "calibration/cpu.yaml" in printed
    assert "train_step_ms" in printed
    line = "cost se_resnet8.yaml --train-batch 8 --calibration calibration/cpu.yaml --json"
    space = load_space("shapes")
    Path("se_resnet8.yaml").write_text(space.baselines()["se"].dump())
    assert cli.run(line.split()) == cli.SUCCESS
    latency = json.loads(capsys.readouterr().out)["costs"]["latency_ms"]
    assert latency["source"] == "predicted"
    assert latency["lower"] < 13 < latency["upper"]  # three placements
    assert latency["value"] == pytest.approx(13, rel=0.03)


@pytest.mark.usefixtures("folder", "quick")
def test_a_calibration_of_other_conditions_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["calibrate", "shapes", "-o", "cal.yaml"]) == cli.SUCCESS
    capsys.readouterr()
    assert cli.run(["search", "run.yaml", "--set", "calibration=cal.yaml"]) == cli.USER_ERROR
    error = capsys.readouterr().err
    assert "train_batch_size was 16, is 8" in error
    assert "run nas calibrate again" in error
    assert not Path("runs").exists()


def test_a_search_says_where_its_calibration_is_and_reads_it_again(
    config: RunConfig,
    make_run: Callable[..., Run],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The file that the user names is not changed; a resumed search reads the run's own."""
    monkeypatch.setattr(calibration_module, "reference_ms", lambda _conditions: 1.0)
    monkeypatch.setattr("launch.reports.report.figures", lambda _: {})
    theirs = tmp_path / "theirs.yaml"
    calibration = Calibration(
        device=fingerprint("cpu"),
        conditions=calibration_module._kind(conditions_of(config)),
        skeleton={},
        protocol=Protocol(),
        reference_ms=1.0,
        tables={},
    )
    calibration.save(theirs)
    before = theirs.read_bytes()
    run = make_run(settings=config.model_copy(update={"calibration": str(theirs)}))
    own = run.folder / "calibration.yaml"
    assert cli.run(["resume", str(run.folder)]) == cli.SUCCESS
    assert f"calibration with this run's measurements: {own}\n" in capsys.readouterr().out
    assert theirs.read_bytes() == before
    calibration.model_copy(update={"protocol": Protocol(seed=7)}).save(own)
    assert cli.run(["resume", str(run.folder)]) == cli.SUCCESS
    assert load_calibration(own, conditions_of(config)).protocol.seed == 7
    assert theirs.read_bytes() == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("calibrate nosuch", "unknown"),
        ("calibrate shapes --device tpu", "device 'tpu' is not known; use cpu, cuda or cuda:N"),
        ("cost resnet18 --memory much", "nas: --memory: 'much' is not a limit"),
        ("cost resnet18 --memory 2x", "nas: --memory: 2x is a multiple; write a size, such as 8GiB"),
        ("cost bam_resnet50_cifar100 --train-batch 1", "nas: --train-batch 1: a norm of bam_resnet50_cifar100 gets"),
        ("cost tiny.yaml --train-batch 1", "nas: --train-batch 1: a norm of tiny.yaml gets one value per channel"),
        ("cost resnet18 --device cuda:99 --measure", "device cuda:99 is not here: this machine has"),
        ("calibrate shapes --device cuda:99", "device cuda:99 is not here: this machine has"),
        ("calibrate shapes -o .", "is a folder"),
        ("search run.yaml --set budget.params=1", "budget.params: no network keeps 1: plain 19.69 k"),
        ("search run.yaml --set budget.peak_memory_train=1.25", "did you mean 1.25x"),
        ("cost resnet18 --calibration nowhere.yaml", "nowhere.yaml"),
        ("proxies nosuch", "nosuch"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_errors_of_the_user(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(line.split()) == cli.USER_ERROR
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) <= 2
    assert not Path("runs").exists()


@pytest.mark.usefixtures("folder")
def test_cost_shows_the_parts_of_memory_and_the_largest_batches(capsys: pytest.CaptureFixture[str]) -> None:
    Path("resnet8.yaml").write_text(load_space("shapes").plain().dump())
    line = ["cost", "resnet8.yaml", "--batch", "2", "--train-batch", "2", "--memory", "40MiB"]
    assert cli.run([*line, "--json"]) == cli.SUCCESS
    found = json.loads(capsys.readouterr().out)
    train = found["memory"]["train"]
    parts = ("parameters", "gradients", "optimizer_state", "inputs", "activations", "temporaries")
    assert sum(train[part] for part in parts) == train["peak"] == found["costs"]["peak_memory_train"]["value"]
    shares = [block["activations"] for block in found["blocks"]]
    assert all(share > 0 for share in shares)
    assert sum(shares) < 1  # the stem and the head have the rest
    assert found["largest_batch"]["train"] >= 2
    assert cli.run(line) == cli.SUCCESS
    assert f"{found['largest_batch']['train']:,} in training" in capsys.readouterr().out


@pytest.mark.usefixtures("folder")
def test_proxies_come_with_their_rank_correlations(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["proxies", "run.yaml", "--networks", "6", "--json"]) == cli.SUCCESS
    found = json.loads(capsys.readouterr().out)
    assert len({row["network"] for row in found["networks"]}) == 6
    assert set(found["rank_correlation"]) == {"synflow", "naswot", "zico", "snip"}
    assert all(set(of) == {"params", "macs"} for of in found["rank_correlation"].values())
    assert all(-1 <= value <= 1 for of in found["rank_correlation"].values() for value in of.values())


def test_blocks_share_an_inference() -> None:
    architecture = load_space("shapes").sample(random.Random(0))
    before = torch.random.get_rng_state()
    shares = block_shares(architecture, Conditions(batch_size=2), seconds=0)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert list(shares) == ["layer1.0", "layer2.0", "layer3.0"]
    assert all(share > 0 for share in shares.values())
    assert sum(shares.values()) < 1
