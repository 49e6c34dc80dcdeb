"""`nas explain` draws what the attention of a trained network looks at."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from launch.cli.app import run
from search_spaces import parse_architecture
from trainers import DataConfig, TrainerConfig, Training, load_data

CONFIG = """
schema: 1
name: tiny
skeleton: {family: resnet, depth: 8, width: 16, image_size: 32, num_classes: 2}
placements:
  "layer1.*": {refine: cbam}
  "layer2.*": {conv: aw, refine: se}
  "layer3.*": {conv: {aa: {kappa: 1.0, upsilon: 0.5, heads: 2}}, refine: gc}
"""
BARE = "schema: 1\nname: bare\nskeleton: {family: resnet, depth: 8, width: 16, image_size: 32, num_classes: 2}\n"
EACH = {"positions", "layer3.0-conv-aa", "layer3.0-refine-gc"}
"""Pictures that every drawn image gets."""


def begun(config: str, folder: Path) -> None:
    """A checkpoint of a training that has not trained yet."""
    data = load_data(DataConfig(name="shapes", train_size=16, val_size=8))
    Training(parse_architecture(config), data, TrainerConfig(epochs=2, batch_size=8)).save(folder / "checkpoint.pt")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.yaml, out/ with a checkpoint, and pictures of two classes and of none."""
    root = tmp_path_factory.mktemp("trained")
    (root / "tiny.yaml").write_text(CONFIG)
    begun(CONFIG, root / "out")
    (root / "out" / "figures.json").write_text('{"weights": "model"}')
    rng = np.random.default_rng(0)
    for name in ("pictures/red/1.png", "pictures/red/2.png", "pictures/blue/3.png", "other/4.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(256, size=(40, 50, 3), dtype=np.uint8)).save(root / name)
    return root


Explain = Callable[..., tuple[int, str, str]]


@pytest.fixture
def explain(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Explain:
    monkeypatch.chdir(trained)

    def call(*words: str, config: str = "tiny.yaml", weights: str = "out") -> tuple[int, str, str]:
        code = run(["explain", config, *words, "--weights", weights, "-o", str(tmp_path / "made")])
        return code, *capsys.readouterr()

    return call


def test_the_files_of_every_kind(explain: Explain, tmp_path: Path) -> None:
    board = tmp_path / "board"
    code, out, _ = explain("pictures", "other/4.png", "--most", "2", "--cam", "--json", "--tensorboard", str(board))
    assert code == 0
    made = [Path(name) for name in json.loads(out)["files"]]
    # One picture of each class comes first: of no class (4), then of blue (1).
    each = {f"{prefix}-{kind}.png" for prefix in ("01-3", "04-4") for kind in {*EACH, "class"}}
    assert {path.name for path in made} == each | {"channels.png", "channels-by-depth.png"}
    for path in made:
        with Image.open(path) as picture:
            assert len(picture.convert("L").getcolors() or range(256)) > 20
    events = EventAccumulator(str(board / "explain")).Reload()  # type: ignore[no-untyped-call]
    tags = events.Tags()["images"]  # type: ignore[no-untyped-call]
    assert set(tags) == {f"explain/{path.stem}" for path in made}


def test_the_names_of_the_files_are_printed(explain: Explain, tmp_path: Path) -> None:
    code, out, _ = explain("other/4.png", "--pixel", "0,0", "--pixel", "31,31")
    assert code == 0
    assert {Path(line) for line in out.splitlines()} == set((tmp_path / "made").iterdir())


def test_errors_are_one_line(explain: Explain, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (trained / "plain.yaml").write_text(
        "schema: 1\nskeleton: {family: resnet, depth: 8, image_size: 32, num_classes: 2}\n"
    )
    (trained / "seven.yaml").write_text(CONFIG.replace("num_classes: 2", "num_classes: 7"))
    (trained / "heads.yaml").write_text(CONFIG.replace("heads: 2", "heads: 1"))
    (trained / "broken.png").write_bytes(b"\x89PNG no more")
    (trained / "empty").mkdir()
    picture = "other/4.png"
    for words, more, wanted in [
        ([picture, "--pixel", "32,0"], {}, "--pixel 32,0: must be ROW,COLUMN, each from 0 to 31"),
        ([picture, "--pixel", "x"], {}, "--pixel x: must be"),
        (["broken.png"], {}, "broken.png: cannot be read as an image"),
        (["absent.png"], {}, "absent.png: cannot be read as an image (no such file"),
        (["empty"], {}, "empty: no pictures"),
        (
            [picture],
            {"weights": "tiny.yaml"},
            "tiny.yaml: not a whole checkpoint of this version; give",
        ),
        ([picture], {"weights": "absent.pt"}, "absent.pt: no such file"),
        ([picture], {"config": "seven.yaml"}, "skeleton.num_classes is 2 there, and 7 in the config"),
        ([picture], {"config": "heads.yaml"}, "layer3.0.conv.heads is 2 there, and 1 in the config"),
        ([picture], {"config": "plain.yaml"}, "weights of another network"),
    ]:
        code, out, err = explain(*words, **more)
        assert (code, out, err.count("\n")) == (2, "", 1), err
        assert wanted in err
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    code, _, err = explain(picture, "--cam")
    assert (code, err) == (2, "nas: --cam needs the package captum, which is not installed: pip install captum\n")
    assert not (tmp_path / "made").exists()


def test_a_network_without_attention_says_what_can_be_drawn(explain: Explain, trained: Path) -> None:
    (trained / "bare.yaml").write_text(BARE)
    begun(BARE, trained / "bare")
    code, out, err = explain("other/4.png", config="bare.yaml", weights="bare/checkpoint.pt")
    assert (code, out) == (2, "")
    assert err.startswith("nas: nothing to show: bare has no operator that shows attention; --cam")
    code, out, _ = explain("other/4.png", "--cam", config="bare.yaml", weights="bare/checkpoint.pt")
    assert code == 0
    assert out.splitlines()[0].endswith("01-4-class.png")
