# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Images that are made, and a user's own; ``tests/runtime/test_image.py`` has their preparation."""

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeopt.errors import InputError, MissingDependencyError
from edgeopt.model.images import list_images, make_images, parse_ppm, read_image

PIXELS = bytes(range(18))


@pytest.mark.heavy
def test_made_images_are_many_and_always_the_same() -> None:
    images = make_images(40)
    assert all(image.dtype == np.uint8 and image.shape[2] == 3 for image in images)
    assert len({image.tobytes() for image in images}) == 40
    assert len({image.shape for image in images}) > 30
    assert min(min(image.shape[:2]) for image in images) < 64
    assert max(max(image.shape[:2]) for image in images) > 256
    for image, again in zip(images, make_images(50), strict=False):
        np.testing.assert_array_equal(image, again)


def test_made_images_use_the_whole_range_and_differ_in_detail() -> None:
    images = make_images(40)
    assert min(image.min() for image in images) == 0
    assert max(image.max() for image in images) == 255
    steps = [np.abs(np.diff(image.astype(int), axis=1)).mean() for image in images]
    assert min(steps) < 5
    assert max(steps) > 20


def test_a_folder_is_read_by_name(tmp_path: Path) -> None:
    for name in ("b.ppm", "a.PPM", "c.ppm"):
        (tmp_path / name).write_bytes(b"P6 3 2 255\n" + PIXELS)
    (tmp_path / "notes.txt").write_text("no image")
    found = list_images(tmp_path, 2)
    assert [path.name for path in found] == ["a.PPM", "b.ppm"]
    np.testing.assert_array_equal(read_image(found[0]).ravel(), list(PIXELS))
    assert read_image(found[0]).shape == (2, 3, 3)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(b"GIF89a")
    with pytest.raises(InputError) as caught:
        list_images(tmp_path, 9)
    assert str(caught.value) == (
        f"{tmp_path}: has no images (looked for .ppm, .png, .jpg, .jpeg)\n"
        "A folder is for a model of images; one of texts takes a file of texts."
    )


@pytest.mark.parametrize("name", ["a.png", "a.jpeg"])
def test_other_formats_are_read_with_pillow(name: str, tmp_path: Path) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    grey = pillow.new("L", (5, 4), 77)
    grey.save(tmp_path / name)
    assert read_image(tmp_path / name).shape == (4, 5, 3)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:20])
    with pytest.raises(InputError, match="is not an image that Pillow reads") as caught:
        read_image(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)


def test_without_pillow_it_is_said_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependencyError) as caught:
        read_image(tmp_path / "a.png")
    assert caught.value.message == ".png images are read with Pillow, which is not installed"
    assert caught.value.hint == "Install it with: pip install pillow; or give binary PPM files."


def test_comments_in_a_ppm_are_skipped() -> None:
    image = parse_ppm(b"P6\n# made by hand\n3 # wide\n2\n255\n" + PIXELS + b"more", "a.ppm")
    np.testing.assert_array_equal(image, np.frombuffer(PIXELS, np.uint8).reshape(2, 3, 3))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a binary PPM: it begins with b'', not P6"),
        (b"P3 1 1 255 0 0 0", "is not a binary PPM: it begins with b'P3', not P6"),
        (b"P63 2 255\n" + PIXELS, "has no width in its header"),
        (b"P6 # no end", "has no width in its header"),
        (b"P6 3 x", "has no height in its header"),
        (b"P6 3 2 255", "has no maximum in its header"),
        (b"P6 3 2 65535\n" + PIXELS, "its maximum is 65535, expected 255: 8 bits a channel"),
        (b"P6 0 2 255\n", "is 0 x 2, expected 1 to 67108864 pixels"),
        (b"P6 99999 99999 255\n", "is 99999 x 99999, expected 1 to 67108864 pixels"),
        (b"P6 3 2 255\n" + PIXELS[:5], "is cut short: 3 x 2 pixels take 18 bytes, found 5"),
    ],
)
def test_a_malformed_ppm_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_ppm(data, "a.ppm")
    assert str(caught.value) == f"a.ppm: {message}"
