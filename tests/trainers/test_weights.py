"""Trained weights are read from files and from the caches of torchvision and timm; code in a file never runs."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from nas import build_model
from nas.weights import WeightsError
from search_spaces import Architecture
from trainers import CheckpointError, Dataset, TrainerConfig, Training, read_weights
from trainers.weights import digest

TENSORS = {"stem.weight": torch.arange(6.0).view(2, 3), "stem.bias": torch.zeros(2, dtype=torch.float16)}


def assert_read(path: Path, tensors: dict[str, Tensor] = TENSORS) -> None:
    read = read_weights(str(path)).tensors
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], value) for name, value in tensors.items())


def refused(source: object) -> str:
    with pytest.raises(WeightsError) as caught:
        read_weights(str(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_safetensors(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.safetensors")
    assert_read(tmp_path / "w.safetensors")


@pytest.mark.parametrize("key", [None, "state_dict", "model", "model_ema"])
@pytest.mark.parametrize("wrapper", ["", "module.", "module._orig_mod."])
def test_forms_of_training_programs(tmp_path: Path, key: str | None, wrapper: str) -> None:
    state = {f"{wrapper}{name}": value for name, value in TENSORS.items()}
    torch.save(state if key is None else {key: state, "epoch": 3, "optimizer": {}}, tmp_path / "w.pth")
    assert_read(tmp_path / "w.pth")


def test_a_pickle_with_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"w": Code()}, tmp_path / "w.pth")
    assert "holds more than tensors, and nothing in a file is run; give" in refused(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_files_that_are_no_weights(tmp_path: Path) -> None:
    for name in ("noise.pth", "noise.safetensors"):
        (tmp_path / name).write_bytes(b"noise" * 100)
        assert refused(tmp_path / name).startswith(f"{tmp_path / name}: ")
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    assert "holds no state dict (names and tensors)" in refused(tmp_path / "w.pth")
    assert "no such file" in refused(tmp_path / "absent.pth")


def test_a_name_of_torchvision_is_read_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    torch.save(TENSORS, tmp_path / "checkpoints" / "resnet18-f37072fd.pth")
    for name in ("resnet18", "ResNet18_Weights.IMAGENET1K_V1"):
        weights = read_weights(f"torchvision:{name}")
        assert (weights.peer, weights.tensors.keys()) == ("torchvision", TENSORS.keys())
    assert "torchvision:resnet1: cannot be read (Unknown model resnet1); check the name" in refused(
        "torchvision:resnet1"
    )


def test_a_name_of_timm_is_read_from_its_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    constants = pytest.importorskip("huggingface_hub.constants")
    theirs = timm.create_model("resnet18").state_dict()
    folder = tmp_path / "models--timm--resnet18.a1_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(theirs, folder / "snapshots" / ("0" * 40) / "model.safetensors")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    weights = read_weights("timm:resnet18.a1_in1k")
    assert weights.peer == "timm"
    assert all(torch.equal(weights.tensors[name], value) for name, value in theirs.items())
    assert "timm:resnet1: cannot be read" in refused("timm:resnet1")


# --- training


@pytest.fixture
def config() -> TrainerConfig:
    return TrainerConfig(epochs=2, batch_size=50, warmup_epochs=0)


def test_a_training_starts_from_a_checkpoint_of_another(
    small_shapes: Dataset, small_network: Architecture, config: TrainerConfig, tmp_path: Path
) -> None:
    first = Training(small_network, small_shapes, config)
    first.run_epoch()
    first.save(tmp_path / "checkpoint.pt")
    weights = read_weights(str(tmp_path / "checkpoint.pt"))
    second = Training(small_network, small_shapes, config, weights=weights)
    assert second.loaded is not None
    assert not second.loaded.new
    assert first.averaged is not None
    for name, value in second.model.state_dict().items():
        assert torch.equal(value, first.averaged.state_dict()[name])
    assert second.evaluate("val").metrics == first.evaluate("val").metrics


def test_a_training_from_other_weights_does_not_continue(
    small_shapes: Dataset, small_network: Architecture, config: TrainerConfig, tmp_path: Path
) -> None:
    torch.save(build_model(small_network).state_dict(), tmp_path / "w.pth")
    weights = read_weights(str(tmp_path / "w.pth"))
    Training(small_network, small_shapes, config, weights=weights).save(tmp_path / "checkpoint.pt")
    Training(small_network, small_shapes, config, weights=weights).restore(tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="weights to start from"):
        Training(small_network, small_shapes, config).restore(tmp_path / "checkpoint.pt")


def test_equal_weights_have_one_digest(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "w.pth")
    save_file(TENSORS, tmp_path / "w.safetensors")
    digests = {digest(read_weights(str(path))) for path in tmp_path.iterdir()}
    assert len(digests) == 1
    torch.save({**TENSORS, "stem.bias": torch.ones(2, dtype=torch.float16)}, tmp_path / "w.pth")
    assert digest(read_weights(str(tmp_path / "w.pth"))) not in digests
