# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The agent reads images behind their lines on standard input, and says what is wrong with one."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import edgeopt
from edgeopt.bundle import Bundle
from tests.compression import pictures

pytest.importorskip("transformers", reason="needs edgeopt[torch]")
pytestmark = pytest.mark.heavy

PPM = b"P6\n2 1\n255\n" + bytes(range(6))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    home = tmp_path_factory.mktemp("images")
    folder = pictures.checkpoint(home / "vit", "ViT")
    return edgeopt.compile(
        folder, "host", output=home / "b.edgeopt", engines=["onnx"], precisions=["fp32"]
    )


def read(
    agent: Path, library: Path, bundle: Bundle, given: bytes
) -> tuple[int, list[dict[str, Any]]]:
    """Run the agent, which the sanitizers watch; return its exit status and its events."""
    words = ["read", "--bundle", str(bundle.path), "--engine", "onnx"]
    done = subprocess.run(
        [str(agent), *words, "--libraries", str(library)],
        input=given,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert b"Sanitizer" not in done.stderr, done.stderr
    assert b"runtime error" not in done.stderr, done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def line(count: object) -> bytes:
    return json.dumps({"image": count}).encode() + b"\n"


def test_images_are_read_one_behind_the_other(
    agent: Path, onnxruntime_library: Path, bundle: Bundle, tmp_path: Path
) -> None:
    files = sorted(pictures.write_images(tmp_path / "seen", 2).glob("*/*.ppm"))
    sent = b"".join(line(len(data)) + data for data in (path.read_bytes() for path in files))
    status, events = read(agent, onnxruntime_library, bundle, sent)
    assert status == 0
    wanted = edgeopt.read_images(bundle, files)
    found = [e for e in events if e["event"] in ("item", "result")]
    for result in wanted.results:
        for item in result.items:
            event = found.pop(0)
            assert (event["label"], "begin" in event) == (item.label, False)
            assert event["score"] == pytest.approx(item.score, abs=1e-6)
        assert found.pop(0)["items"] == len(result.items)
    assert found == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (line(len(PPM)) + PPM[:-1], "ends within an image"),
        (line(len(PPM)), "ends within an image"),
        (line(0), "expected {"),
        (line(-1), "expected {"),
        (line(1 << 40), "expected {"),
        (line("17") + PPM, "expected {"),
        (line(len(PPM) - 1) + PPM, "cut short"),
        (line(len(PPM)) + b"P5" + PPM[2:], "PPM"),
        (line(4) + b"P6\n9", "PPM"),
        (b'{"text": "a"}\n', "text"),
    ],
)
def test_what_is_no_image_is_told(
    given: bytes, message: str, agent: Path, onnxruntime_library: Path, bundle: Bundle
) -> None:
    status, events = read(agent, onnxruntime_library, bundle, line(len(PPM)) + PPM + given)
    assert status == 1
    kinds = [event["event"] for event in events]
    assert kinds.count("result") == 1  # of the sound one before it
    assert kinds[-1] == "error"
    assert message in events[-1]["message"]
