"""Pictures are decoded as viewers show them, or refused with their name."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from trainers.datasets.base import DataError, Files
from trainers.datasets.pictures import Unreadable, extensions, look, upright
from trainers.datasets.pixels import centre_box, read_image

RAMP = np.arange(0, 256, 16, dtype=np.uint8)[None].repeat(4, axis=0)
"""[4, 16], dark at the left, bright at the right."""


def read(path: Path) -> npt.NDArray[np.uint8]:
    look(path)
    with Image.open(path) as image:
        return np.asarray(upright(image))


@pytest.mark.parametrize("ending", ["png", "tif", "pgm"])
def test_sixteen_bits_are_the_picture_of_eight(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x.{ending}"
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(path)
    assert np.array_equal(read(path), RAMP[..., None].repeat(3, axis=2))


@pytest.mark.parametrize(("dtype", "told"), [(np.int32, "32-bit integer"), (np.float32, "32-bit float")])
def test_what_has_no_white_is_refused(tmp_path: Path, dtype: npt.DTypeLike, told: str) -> None:
    path = tmp_path / "x.tif"
    Image.fromarray(RAMP.astype(dtype)).save(path)
    with pytest.raises(ValueError, match=f"{told} pixels have no fixed white; save it with 8 or 16 bits"):
        look(path)
    with Image.open(path) as image, pytest.raises(ValueError, match=told):
        upright(image)


def with_palette(image: Image.Image) -> Image.Image:
    """A black sign on the palette's first entry, which is transparent."""
    found = image.convert("L").point(lambda value: 0 if value < 128 else 1).convert("P")
    found.putpalette([0, 0, 0, 255, 0, 0])
    return found


class TestTransparency:
    def black_sign(self) -> Image.Image:
        """A black picture whose left half is opaque and whose right half is transparent."""
        alpha = np.where(np.arange(16) < 8, 255, 0).astype(np.uint8)[None].repeat(4, axis=0)
        return Image.fromarray(np.stack([np.zeros((4, 16), np.uint8)] * 3 + [alpha], axis=2))

    @pytest.mark.parametrize("mode", ["RGBA", "LA"])
    def test_transparent_pixels_are_white(self, tmp_path: Path, mode: str) -> None:
        path = tmp_path / "x.png"
        self.black_sign().convert(mode).save(path)
        assert look(path).transparent
        shown = read(path)
        assert (shown[:, :8] == 0).all()
        assert (shown[:, 8:] == 255).all()

    def test_of_a_palette_too(self, tmp_path: Path) -> None:
        path = tmp_path / "x.gif"
        with_palette(Image.fromarray(RAMP)).save(path, transparency=0)
        assert look(path).transparent
        assert (read(path)[:, 0] == 255).all()
        assert read(path)[0, -1].tolist() == [255, 0, 0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_upright(tmp_path: Path, orientation: int) -> None:
    """TIFF 6.0, page 36: which visible sides the first row and the first column of the stored picture are."""
    shown = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    kept = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.T,
        6: np.rot90(shown),  # row 0 is the right side: turned clockwise it stands
        7: shown[::-1, ::-1].T,
        8: np.rot90(shown, -1),
    }[orientation]
    path = tmp_path / "x.png"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(kept)).save(path, exif=exif)
    seen = look(path)
    assert (seen.width, seen.height) == (4, 3)
    assert np.array_equal(read(path)[..., 0], shown)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr"])
def test_other_kinds_of_pixels_are_converted_by_pillow(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "x.tif"
    image = Image.fromarray(RAMP).convert(mode)
    image.save(path)
    assert np.array_equal(read(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "webp", "bmp", "tif", "ppm", "jp2", "qoi", "tga"])
def test_a_truncated_file_is_found_without_decoding_the_others(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    path = tmp_path / f"x.{ending}"
    Image.fromarray(rng.integers(256, size=(64, 64, 3), dtype=np.uint8)).save(path)
    if ending in ("png", "jpg", "gif"):
        with monkeypatch.context() as patch:
            patch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
            look(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(Unreadable, match=r"^(damaged or cut off|no picture in a format that is read)$"):
        look(path)


def test_unreadable_pictures_have_our_messages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decoder in training gives the same messages."""
    Image.new("RGB", (8, 8)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder.png").mkdir()
    told = {
        "empty.png": "an empty file",
        "text.png": "no picture in a format that is read",
        "folder.png": "is a directory",
        "gone.png": "no such file or directory",
        "large.png": "more than 20 pixels",
    }
    paths = np.array([name.encode() for name in told])
    split = Files(str(tmp_path), paths, np.zeros(len(told), np.int64), 0)
    for index, (name, why) in enumerate(told.items()):
        with pytest.raises(Unreadable) as raised:
            look(tmp_path / name)
        assert str(raised.value) == why
        with pytest.raises(DataError) as in_training:
            read_image(split, index, lambda size: centre_box(size, 1.0), 8)
        assert str(in_training.value) == f"{tmp_path / name}: cannot be read as an image ({why}); repair or remove it"


def test_common_formats_are_read() -> None:
    assert extensions() >= {".jpg", ".jpeg", ".jfif", ".png", ".gif", ".webp", ".avif", ".bmp", ".tif", ".mpo"}
    assert extensions().isdisjoint({".heic", ".pdf", ".txt", ".npy", ".mp4", ".svg"})
