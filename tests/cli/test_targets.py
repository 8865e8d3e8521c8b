# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt targets`` as a user runs it: what goes to stdout, and with which exit code."""

import json
from pathlib import Path

import pytest

from edgeopt.target import FOLDER, load_target, target_names
from tests.commands import edgeopt


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_list_names_every_target_within_80_columns() -> None:
    out = edgeopt("targets")
    assert (out.returncode, out.stderr) == (0, "")
    rows = {line.split()[0]: line.split() for line in out.stdout.splitlines() if line[:1].strip()}
    assert set(target_names()) <= rows.keys()
    assert rows["raspberry-pi-5"][-8:] == ["32", "8", "16", "8", "16", "8", "32", "8"]
    assert rows["jetson-nano"][-6:] == ["32", "8", "-", "-", "32", "8"]
    assert max(map(len, out.stdout.splitlines())) <= 80


def test_the_list_as_json() -> None:
    document = json.loads(edgeopt("targets", "--json").stdout)
    rows = {row["name"]: row for row in document["targets"]}
    assert rows.keys() == set(target_names())
    assert rows["jetson-nano"]["engines"] == {"onnx": ["fp32", "int8"], "tvm": ["fp32", "int8"]}
    assert rows["jetson-nano"]["not_built"] == ["tflite", "openvino"]
    assert rows["pixel-8"]["cores"][0] == {"core": "cortex-x3", "count": 1, "max_ghz": 2.914}


@pytest.mark.parametrize("name", target_names())
def test_a_target_is_shown_whole_within_80_columns(name: str) -> None:
    out = edgeopt("targets", "show", name)
    assert (out.returncode, out.stderr) == (0, "")
    assert max(map(len, out.stdout.splitlines())) <= 80
    target = load_target(name)
    for key in target.device.sources:
        assert f"\n{key} " in out.stdout
    for spec in target.engines:
        assert f"{spec.engine} {spec.version}" in out.stdout
    for reason in target.not_built.values():
        assert reason.split()[0] in out.stdout
    assert "only with a cosine to FP32 PyTorch of at least fp32 0.9999" in words(out.stdout)


def test_facts_show_their_sources_and_their_doubts() -> None:
    lines = edgeopt("targets", "show", "iphone-13", columns=140).stdout.splitlines()
    rows = {line.split()[0]: line for line in lines if line[:1].strip()}
    assert rows["memory"].split()[-1] == "unverified"
    assert rows["peak"].rstrip().endswith("derived; unverified: peak_gflops_fp32")
    assert rows["chip"].rstrip().endswith("press, devicectl")
    assert any("4 blizzard" in line and "unverified: max_ghz" in line for line in lines)
    assert "power" not in rows


def test_brackets_in_a_files_text_are_shown_as_they_are() -> None:
    assert "edgeopt[onnx]" in edgeopt("targets", "show", "host", columns=140).stdout


@pytest.mark.parametrize(
    "arguments",
    [("targets", "show", "rk3588", "--json"), ("targets", "--json", "show", "rk3588")],
)
def test_a_target_as_json(arguments: tuple[str, ...]) -> None:
    out = edgeopt(*arguments)
    document = json.loads(out.stdout)
    device = document["target"]["device"]
    assert device["cited"]["clusters[0]"] == ["hrw", "ncnn"]
    assert "os.libc_version" in device["unverified"]
    assert document["target"]["engines"][3]["options"] == {"mcpu": "cortex-a76"}
    assert document["recipe"]["bounds"]["int8"] == {"cosine_min": 0.95, "answers": {}}


def test_an_unknown_target_names_the_nearest_and_exits_with_2() -> None:
    out = edgeopt("targets", "show", "raspbery-pi-4", "--json")
    assert out.returncode == 2
    assert "did you mean 'raspberry-pi-4'" in out.stderr
    error = json.loads(out.stdout)["error"]
    assert (error["kind"], error["exit_code"]) == ("InputError", 2)


def test_a_users_own_file_with_its_budget(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    shipped = (FOLDER / "raspberry-pi-4.toml").read_text()
    path.write_text(shipped + "\n[budget]\nlatency_ms = 40\nmemory_mib = 96\n")
    out = edgeopt("targets", "show", str(path))
    assert "latency at most 40 ms" in out.stdout
    assert "memory at most 96 MiB" in out.stdout
