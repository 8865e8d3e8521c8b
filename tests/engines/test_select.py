# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace

import pytest

from edgeopt.engines.select import Platform, choose, verdicts
from edgeopt.errors import BoardError

PI_4 = Platform(
    arch="aarch64",
    libc="glibc",
    libc_version="2.36",
    glibcxx="3.4.30",
    isa=("fp", "asimd", "crc32"),
    cores=("cortex-a72",) * 4,
)
PI_5 = replace(PI_4, isa=("fp", "asimd", "asimddp"), cores=("cortex-a76",) * 4)
NANO = replace(PI_4, libc_version="2.27", glibcxx="3.4.25", cores=("cortex-a57",) * 4)
PI_2 = replace(
    PI_4,
    arch="armv7",
    libc_version="2.41",
    glibcxx="3.4.33",
    isa=("half", "neon"),
    cores=("cortex-a7",) * 4,
    libraries=("/usr/lib/arm-linux-gnueabihf/libonnxruntime.so.1.21",),
)
ALPINE = replace(PI_4, libc="musl", libc_version="1.2.5")


def told(platform: Platform) -> dict[str, tuple[bool, str]]:
    return {v.engine: (v.runs, v.version) for v in verdicts(platform)}


def test_a_pi_4_runs_the_newest_of_all() -> None:
    assert told(PI_4) == {
        "onnx": (True, "1.31.1"),
        "tflite": (True, "2.3.0"),
        "openvino": (True, "2026.4.1"),
        "tvm": (True, "0.26.0"),
    }


def test_a_jetson_nano_runs_what_its_glibc_allows() -> None:
    assert told(NANO) == {
        "onnx": (True, "1.27.0"),
        "tflite": (False, "2.3.0"),
        "openvino": (False, "2026.4.1"),
        "tvm": (True, "0.26.0"),
    }
    reasons = {v.engine: v.reason for v in verdicts(NANO)}
    assert reasons["onnx"] == "onnxruntime 1.31.1 needs GLIBC 2.28, the board has 2.27"
    assert reasons["tflite"] == "ai-edge-litert 2.3.0 needs GLIBC 2.34, the board has 2.27"


def test_debian_11_runs_an_older_litert() -> None:
    board = replace(PI_4, libc_version="2.31", glibcxx="3.4.28")
    assert told(board)["tflite"] == (True, "2.1.0")
    assert told(replace(board, arch="x86_64"))["tflite"] == (True, "2.3.0")


def test_a_32_bit_board_runs_what_its_system_has() -> None:
    installed = PI_2.libraries[0]
    assert told(PI_2) == {
        "onnx": (True, "1.21.0"),
        "tflite": (False, "2.3.0"),
        "openvino": (False, "2026.4.1"),
        "tvm": (False, "0.26.0"),
    }
    assert choose("onnx", "1.21.0", PI_2).library_among(PI_2.libraries) == installed
    older = replace(PI_2, libc_version="2.36", glibcxx="3.4.30")  # it was built there
    assert told(older)["onnx"] == (True, "1.21.0")


def test_what_a_32_bit_board_has_to_install_is_named_with_the_command() -> None:
    bare = replace(PI_2, libraries=("/usr/lib/libonnxruntime.so.1.12.1",))
    command = "sudo apt install libonnxruntime1.21"
    with pytest.raises(BoardError) as caught:
        choose("onnx", "1.21.0", bare)
    assert str(caught.value) == (
        f"libonnxruntime1.21 1.21.0 is not installed there: {command}\n"
        "Do that on the board, and then run the same command again."
    )
    with pytest.raises(BoardError) as caught:
        choose("onnx", "1.27.0", bare)
    assert str(caught.value) == (
        "onnxruntime-node 1.27.0 has no build for armv7\n"
        f"onnx 1.21.0 would run: {command}, and set it as the version in a target of your own."
    )
    with pytest.raises(BoardError, match=r"needs GLIBC 2\.38, the board has 2\.36") as caught:
        choose("onnx", "1.21.0", replace(bare, libc_version="2.36"))
    assert caught.value.hint == "No known build of onnx runs there."


def test_a_wrong_version_is_refused_with_the_one_that_would_run() -> None:
    with pytest.raises(BoardError) as caught:
        choose("onnx", "1.31.1", NANO)
    assert str(caught.value) == (
        "onnxruntime 1.31.1 needs GLIBC 2.28, the board has 2.27\n"
        "onnx 1.27.0 would run: set it as the version in a target of your own."
    )
    assert choose("onnx", "1.27.0", NANO).name == "onnxruntime-node 1.27.0"


def test_a_build_that_dies_with_sigill_is_refused_on_that_core_only() -> None:
    with pytest.raises(BoardError, match="dies with an illegal instruction on cortex-a72"):
        choose("onnx", "1.21.0", PI_4)
    assert choose("onnx", "1.21.0", PI_5).version == "1.21.0"


@pytest.mark.parametrize(
    ("platform", "reason"),
    [
        (ALPINE, "onnxruntime 1.31.1 needs glibc, the board has musl"),
        (replace(PI_4, arch="armv7"), "onnxruntime 1.31.1 has no build for armv7"),
        (
            replace(PI_4, glibcxx=None),
            r"onnxruntime 1\.31\.1 needs libstdc\+\+\.so\.6, which the board does not have",
        ),
        (
            replace(PI_4, glibcxx="3.4.18"),
            "onnxruntime 1.31.1 needs GLIBCXX 3.4.22, the board has 3.4.18",
        ),
    ],
)
def test_what_no_build_can_do(platform: Platform, reason: str) -> None:
    assert not any(v.runs for v in verdicts(platform))
    with pytest.raises(BoardError, match=reason) as caught:
        choose("onnx", "1.31.1", platform)
    assert caught.value.hint == "No known build of onnx runs there."
