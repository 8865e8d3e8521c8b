# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The runtime's images: what is a PPM, and the same pixels as Pillow and transformers."""

from __future__ import annotations

import itertools
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeopt.model.image import BICUBIC, BILINEAR, NEAREST, ImageInput
from edgeopt.model.images import Image, make_images, prepare
from edgeopt.runtime.build import SOURCES
from tests.programs import SANITIZED, compiled

pytestmark = pytest.mark.heavy  # starts a program for each image

SPEC = ImageInput(
    height=16,
    width=16,
    resize_height=16,
    resize_width=16,
    resample=BILINEAR,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    rescale_factor=1 / 255,
)
KEEPS = replace(SPEC, resize_height=20, resize_width=20, height=17, keep_shape=True)
RESAMPLES = (NEAREST, BILINEAR, BICUBIC)
LIBRARY = (SOURCES / "image/image.c", SOURCES / "base/failure.c")


@pytest.fixture(scope="session")
def program() -> Path:
    """Images in, floats out, under the address and undefined-behaviour sanitizers."""
    own = Path(__file__).parent / "image_main.c"
    return compiled("image_main", *SANITIZED, own, *LIBRARY, "-lm")


def ppm(image: Image) -> bytes:
    height, width, _ = image.shape
    return b"P6\n%d %d\n255\n" % (width, height) + image.tobytes()


def words_of(spec: ImageInput) -> list[str]:
    sizes = (spec.resize_height, spec.resize_width, spec.height, spec.width)
    return [str(n) for n in (spec.resample, *sizes, int(spec.keep_shape))]


def run(
    program: Path, data: bytes, folder: Path, spec: ImageInput, most: tuple[int, int]
) -> np.ndarray | str:
    """Return the network's input, or what the program said was wrong."""
    (folder / "in.ppm").write_bytes(data)
    out = folder / "out"
    words = [str(folder / "in.ppm"), str(out), *map(str, most), *words_of(spec)]
    done = subprocess.run([str(program), *words], capture_output=True, text=True)
    assert done.stderr == ""
    if done.returncode:
        assert done.returncode == 1
        return done.stdout.strip()
    return inputs_in(out, spec)


def inputs_in(out: Path, spec: ImageInput) -> np.ndarray:
    return np.fromfile(out, np.float32).reshape(3, spec.height, spec.width)


Job = tuple[Image, ImageInput, tuple[int, int]]


def check_each(program: Path, folder: Path, jobs: Sequence[Job]) -> None:
    """Hold what one process makes of images, each with memory for the largest of such a size."""
    words, outs = [], []
    for i, (image, spec, most) in enumerate(jobs):
        path, out = folder / f"{i}.ppm", folder / f"{i}.out"
        path.write_bytes(ppm(image))
        words += [str(path), str(out), *map(str, most), *words_of(spec)]
        outs.append(out)
    done = subprocess.run([str(program), *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for (image, spec, _), out in zip(jobs, outs, strict=True):
        np.testing.assert_array_equal(inputs_in(out, spec), prepare(image, spec)[0])


def by_transformers(image: Image, spec: ImageInput) -> np.ndarray:
    """Prepare with transformers' image processor on Pillow.

    That is what its users get if torchvision is not installed; with torchvision the resize is
    torch's own, which was not compared.
    """
    if pillow_version() < 13:
        pytest.skip("Pillow up to 12 resizes tall images in another order")
    pytest.importorskip("transformers", reason="needs edgeopt[torch]")
    from edgeopt.quiet import quiet

    with quiet():
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

        processor = ViTImageProcessorPil(
            size={"shortest_edge": spec.resize_height}
            if spec.keep_shape
            else {"height": spec.resize_height, "width": spec.resize_width},
            resample=spec.resample,
            do_center_crop=True,
            crop_size={"height": spec.height, "width": spec.width},
            image_mean=list(spec.mean),
            image_std=list(spec.std),
            rescale_factor=spec.rescale_factor,
        )
        return processor(image, return_tensors="np", input_data_format="channels_last")[
            "pixel_values"
        ][0]


def noise(height: int, width: int) -> Image:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), "u1")


def edges(height: int, width: int) -> Image:
    """Black and white at random, which makes a cubic filter overshoot most."""
    return np.where(noise(height, width) < 128, 0, 255).astype(np.uint8)


def columns_first(image: Image, height: int, width: int, resample: int) -> bool:
    """Tell whether Pillow 13 goes along the columns first; Pillow up to 12 never does."""
    shrinks = image.shape[0] - height
    return resample != NEAREST and shrinks > 0 and shrinks > 2 * (image.shape[1] - width)


def resize_in_two_steps(image: Image, height: int, width: int, resample: int) -> Image:
    """Resize with any Pillow in the order of Pillow 13."""
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    first = (width, image.shape[0])
    if columns_first(image, height, width, resample):
        first = (image.shape[1], height)
    half = pillow.fromarray(image).resize(first, resample)
    return np.array(half.resize((width, height), resample))


def pillow_version() -> int:
    return int(pytest.importorskip("PIL", reason="needs Pillow").__version__.split(".")[0])


SIDES = (1, 2, 3, 15, 16, 17, 31, 64, 97, 224)


@pytest.mark.parametrize("resample", RESAMPLES)
def test_the_host_resizes_as_pillow(resample: int) -> None:
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    from edgeopt.model.resample import resize

    for height, width in itertools.product(SIDES, SIDES):
        for wanted in ((16, 16), (1, 1), (23, 40)):
            image = (noise if width % 2 else edges)(height, width)
            got = resize(image, *wanted, resample)
            steps = resize_in_two_steps(image, *wanted, resample)
            np.testing.assert_array_equal(got, steps)
            if pillow_version() >= 13 or not columns_first(image, *wanted, resample):
                at_once = np.array(pillow.fromarray(image).resize(wanted[::-1], resample))
                np.testing.assert_array_equal(got, at_once)


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("number", range(6))
@pytest.mark.parametrize("keeps", [False, True])
def test_the_host_prepares_as_transformers(resample: int, number: int, keeps: bool) -> None:
    image = make_images(6)[number]
    spec = replace(SPEC, resize_height=41, resize_width=38, height=32, width=31, resample=resample)
    if keeps:
        spec = replace(spec, resize_width=41, keep_shape=True)
    np.testing.assert_array_equal(prepare(image, spec)[0], by_transformers(image, spec))


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("height", SIDES)
def test_the_runtime_prepares_as_the_host(
    resample: int, height: int, program: Path, tmp_path: Path
) -> None:
    specs = (
        replace(SPEC, resample=resample),
        replace(SPEC, resample=resample, resize_height=40, resize_width=37, height=17, width=30),
        replace(KEEPS, resample=resample),
    )
    jobs = [
        ((noise if width % 2 else edges)(height, width), spec, (width, height))
        for width in SIDES
        for spec in specs
    ]
    check_each(program, tmp_path, jobs)


@pytest.mark.parametrize("resample", RESAMPLES)
@pytest.mark.parametrize("side", [1, 2, 16])
def test_memory_for_the_largest_image_is_enough_for_each_smaller_one(
    resample: int, side: int, program: Path, tmp_path: Path
) -> None:
    """If the shape is kept, how much an image shrinks goes by its shape."""
    spec = replace(
        KEEPS, resize_height=side, resize_width=side, height=side, width=side, resample=resample
    )
    jobs = [
        (edges(height, width), spec, most)
        for height, width in [(1, 97), (97, 1), (2, 97), (97, 3), (96, 97), (97, 97), (33, 65)]
        for most in [(width, height), (97, 97), (224, 97), (97, 224)]
    ]
    check_each(program, tmp_path, jobs)


@pytest.mark.parametrize("resample", RESAMPLES)
def test_the_runtime_prepares_photographs_as_transformers(
    resample: int, program: Path, tmp_path: Path
) -> None:
    warps = replace(
        SPEC, resize_height=256, resize_width=256, height=224, width=224, resample=resample
    )
    for spec in (warps, replace(warps, keep_shape=True)):
        for image in (*make_images(4), noise(480, 640), edges(1080, 1920), edges(200, 3000)):
            got = run(program, ppm(image), tmp_path, spec, (4000, 3000))
            np.testing.assert_array_equal(got, by_transformers(image, spec))


def test_the_memory_for_a_camera_is_small(program: Path) -> None:
    """The program allocates exactly this much, and writes no byte behind it."""
    spec = replace(SPEC, resize_height=224, resize_width=224, height=224, width=224)
    sizes = {}
    for name, sides in {"vga": (640, 480), "12 MP": (4000, 3000)}.items():
        words = ["bytes", *map(str, sides), *words_of(spec)]
        done = subprocess.run([str(program), *words], capture_output=True, text=True, check=True)
        sizes[name] = int(done.stdout)
    print(sizes)
    assert sizes["vga"] < 30_000
    assert sizes["12 MP"] < 110_000


@pytest.mark.parametrize(
    ("most", "spec"),
    [
        ((0, 10), SPEC),
        ((10, 70_000), SPEC),
        ((10, 10), replace(SPEC, height=17)),
        ((10, 10), replace(SPEC, resize_width=5000)),
        ((10, 10), replace(SPEC, resample=1)),
    ],
)
def test_no_memory_is_asked_for_what_cannot_be(
    most: tuple[int, int], spec: ImageInput, program: Path
) -> None:
    words = ["bytes", *map(str, most), *words_of(spec)]
    done = subprocess.run([str(program), *words], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


WRONG_SPECS = [
    ({"resize_width": 0}, "resizing to 16 x 0 (height x width), expected 1 to 4096 each"),
    ({"height": 17}, "17 x 16 (height x width) cannot be cut out of 16 x 16"),
    (
        {"keep_shape": True, "resize_width": 18},
        "resizing to 16 x 18, expected one side if the shape is kept",
    ),
    ({"resample": 1}, "resampling 1, expected 0 (nearest), 2 (bilinear) or 3 (bicubic)"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_SPECS, ids=lambda v: json.dumps(v)[:30])
def test_a_wrong_spec_is_refused(
    changes: dict[str, int], message: str, program: Path, tmp_path: Path
) -> None:
    data = ppm(noise(4, 4))
    got = run(program, data, tmp_path, replace(SPEC, **changes), (4, 4))  # type: ignore[arg-type]
    assert got == f"1 image: {message}"


def test_a_larger_image_than_there_is_memory_for_is_refused(program: Path, tmp_path: Path) -> None:
    got = run(program, ppm(noise(8, 11)), tmp_path, SPEC, (10, 10))
    assert got == ("1 image: is 11 x 8 pixels (width x height), at most 10 x 10 were made room for")


PIXELS = bytes(range(12))


@pytest.mark.parametrize(
    "header",
    [b"P6 2 2 255\n", b"P6\n# made by hand\n2 # wide\n\t2\r\n255 ", b"P6\n00002 2\n255\x0b"],
)
def test_comments_and_white_space_are_skipped(header: bytes, program: Path, tmp_path: Path) -> None:
    expected = prepare(np.frombuffer(PIXELS, np.uint8).reshape(2, 2, 3), SPEC)[0]
    for behind in (b"", b"P6 more"):
        got = run(program, header + PIXELS + behind, tmp_path, SPEC, (2, 2))
        np.testing.assert_array_equal(got, expected)


MALFORMED = [
    (b"", "is not a binary PPM: it does not begin with P6"),
    (b"P", "is not a binary PPM: it does not begin with P6"),
    (b"P3 2 2 255\n" + PIXELS, "is not a binary PPM: it does not begin with P6"),
    (b"\x89PNG\r\n\x1a\n", "is not a binary PPM: it does not begin with P6"),
    (b"P6", "PPM header: expected white space before the width"),
    (b"P62 2 255\n" + PIXELS, "PPM header: expected white space before the width"),
    (b"P6 # and no end", "PPM header: has no width"),
    (b"P6 \n", "PPM header: has no width"),
    (b"P6 -2 2 255\n" + PIXELS, "PPM header: has no width"),
    (b"P6 2", "PPM header: expected white space before the height"),
    (b"P6 2x2 255\n" + PIXELS, "PPM header: expected white space before the height"),
    (b"P6 2 2", "PPM header: expected white space before the maximum"),
    (b"P6 2 2 \n", "PPM header: has no maximum"),
    (b"P6 2 2 65535\n" + PIXELS, "PPM header: the maximum is 65535, expected 255 (8 bits a "),
    (b"P6 2 2 25\n" + PIXELS, "PPM header: the maximum is 25, expected 255 (8 bits a channel)"),
    (b"P6 2 2 255", "PPM header: expected one white space after the maximum"),
    (b"P6 2 2 255#" + PIXELS, "PPM header: expected one white space after the maximum"),
    (b"P6 0 2 255\n", "is empty: 0 x 2 pixels"),
    (b"P6 2 0 255\n", "is empty: 2 x 0 pixels"),
    (b"P6 2 2 255\n" + PIXELS[:11], "is cut short: 2 x 2 pixels take 12 bytes, found 11"),
    (b"P6 2 2 255\n", "is cut short: 2 x 2 pixels take 12 bytes, found 0"),
    (b"P6 4294967298 2 255\n" + PIXELS, "PPM header: the width has over 9 digits"),
    (
        b"P6 999999999 999999999 255\n" + PIXELS,
        "is cut short: 999999999 x 999999999 pixels take 2999999994000000003 bytes, found 12",
    ),
]


@pytest.mark.parametrize(("data", "message"), MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_ppm_is_refused(
    data: bytes, message: str, program: Path, tmp_path: Path
) -> None:
    got = run(program, data, tmp_path, SPEC, (100, 100))
    assert isinstance(got, str)
    assert got.startswith(f"1 image: {message}")


FUZZ_MAIN = """
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(void)
{
    static const uint8_t seed[] = "P6\\n# a\\n3 2\\n255\\n0123456789abcdefgh";
    uint8_t data[sizeof seed];
    uint32_t state = 1;

    for (int round = 0; round < 200000; round++) {
        size_t size = sizeof seed - 1;

        for (size_t i = 0; i < size; i++) {
            data[i] = seed[i];
        }
        for (int change = round % 4; change >= 0; change--) {
            state = state * 1664525u + 1013904223u;
            data[(state >> 8) % size] = (uint8_t)(state >> 24);
        }
        state = state * 1664525u + 1013904223u;
        (void)LLVMFuzzerTestOneInput(data, size - (state >> 16) % 4);
    }
    return 0;
}
"""


def test_the_fuzz_target_survives_changed_bytes(tmp_path: Path) -> None:
    main = tmp_path / "main.c"
    main.write_text(FUZZ_MAIN)
    target = SOURCES.parent / "fuzz" / "fuzz_image.c"
    program = compiled("fuzz_image", *SANITIZED, main, target, *LIBRARY, "-lm")
    subprocess.run([str(program)], check=True, timeout=120)
