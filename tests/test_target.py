# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Targets: what is shipped is sound and explained; what a user writes wrong is refused."""

from pathlib import Path

import pytest

from edgeopt.device import profile_names
from edgeopt.errors import InputError
from edgeopt.recipe import FOLDER as RECIPES
from edgeopt.recipe import load_recipe
from edgeopt.target import ENGINES, FOLDER, load_target, target_names

# The highest GLIBC symbol that each engine's library asks for, read off the packages.
GLIBC = {
    ("onnx", "1.31.1"): (2, 28),
    ("onnx", "1.27.0"): (2, 27),
    ("onnx", "1.21.0"): (2, 38),  # of 32-bit Arm
    ("tflite", "2.3.0"): (2, 34),
    ("openvino", "2026.4.1"): (2, 34),
    ("tvm", "0.26.0"): (2, 27),
}


def test_every_profile_has_a_target() -> None:
    assert set(target_names()) == set(profile_names())
    assert {load_target(name).device.id for name in target_names()} == set(profile_names())


@pytest.mark.parametrize("name", target_names())
def test_a_shipped_target_accounts_for_every_engine(name: str) -> None:
    target = load_target(name)
    built = {spec.engine for spec in target.engines}
    assert built | set(target.not_built) == set(ENGINES)
    for why in [spec.why for spec in target.engines] + list(target.not_built.values()):
        assert why[0].isupper()
        assert why.endswith(".")
        assert len(why) > 30
    load_recipe(target.recipe)


@pytest.mark.parametrize("name", target_names())
def test_a_shipped_target_builds_only_what_its_device_can_load(name: str) -> None:
    target = load_target(name)
    libc = target.device.os
    for spec in target.engines:
        if libc.libc == "glibc" and not target.is_host:
            has = tuple(map(int, (libc.libc_version or "").split(".")))
            assert has >= GLIBC[spec.engine, spec.version]
        if libc.libc in ("bionic", "apple"):
            assert spec.engine in ("onnx", "tflite")
        if "fp16" in spec.precisions:
            assert target.device.has_fp16
        if spec.engine == "onnx":
            assert (spec.opset, spec.ir_version) == (17, 8)
        if spec.engine == "tvm":
            assert "INT8" in spec.why
            assert spec.options.get("mcpu") == (
                None if target.is_host else target.device.clusters[0].core
            )


def test_only_the_host_is_the_host() -> None:
    assert [name for name in target_names() if load_target(name).is_host] == ["host"]


def own(folder: Path, old: str = "", new: str = "") -> Path:
    """Write a user's target, as shipped for the Raspberry Pi 4 but for one change."""
    text = (FOLDER / "raspberry-pi-4.toml").read_text()
    assert old in text
    path = folder / "mine.toml"
    path.write_text(text.replace(old, new, 1) if old else text)
    return path


def test_a_target_of_the_users_own_finds_its_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "strict.toml").write_text(
        (RECIPES / "default.toml").read_text().replace("0.95", "0.99")
    )
    profile = (FOLDER.parent / "profiles/raspberry-pi-5.toml").read_text()
    (tmp_path / "board.toml").write_text(profile.replace("Raspberry Pi 5", "My board"))
    path = own(tmp_path, 'device = "raspberry-pi-4"', 'device = "./board.toml"')
    path.write_text(path.read_text().replace('"default"', '"strict.toml"'))
    monkeypatch.chdir(tmp_path.parent)
    target = load_target(f"{tmp_path.name}/mine.toml")
    assert (target.name, target.device.id, target.device.name) == ("mine", "board", "My board")
    monkeypatch.chdir("/")  # the recipe is found again from anywhere
    assert load_recipe(target.recipe).bounds["int8"].cosine_min == 0.99


def test_a_budget_is_optional(tmp_path: Path) -> None:
    assert load_target(own(tmp_path)).budget == {}
    budget = "[budget]\nlatency_ms = 40\nmemory_mib = 128\n[measure]"
    target = load_target(own(tmp_path, "[measure]", budget))
    assert target.budget == {"latency_ms": 40.0, "memory_mib": 128.0}


ONNX = '"1.31.1"\nprecisions = ["fp32", "int8"]'


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("opset = 17", "opset = 300", "engines.onnx.opset: expected 7 to 28, found 300"),
        ("opset = 17", 'opset = "17"', "engines.onnx.opset: expected an integer, found '17' (str)"),
        ("opset = 17\n", "", "engines.onnx.opset: is missing, expected an integer"),
        ("ir_version = 8", "ir_versoin = 8", "engines.onnx.ir_version: is missing"),
        (
            "[engines.tflite]",
            "[engines.tflite]\nopset = 17",
            "engines.tflite.opset: belongs to onnx alone, tflite has none",
        ),
        (
            "[engines.tflite]",
            '[engines.tflite]\nmin_runtime = "2.4"',
            "engines.tflite.min_runtime: expected",
        ),
        (
            "[engines.onnx]",
            '[engines.onnx]\nmin_runtime = "2.8"',
            "engines.onnx.min_runtime: belongs to tflite alone, onnx has none",
        ),
        (
            "[engines.onnx]",
            "[engines.onxx]",
            "engines.onxx: unknown engine; did you mean 'onnx'? (known: onnx, tflite, ",
        ),
        (
            ONNX,
            ONNX.replace("int8", "int4"),
            "engines.onnx.precisions[1]: expected one of fp32, fp16, int8, found 'int4'",
        ),
        (
            ONNX,
            ONNX.replace("int8", "fp32"),
            "engines.onnx.precisions[1]: 'fp32' stands there twice",
        ),
        (ONNX, '"1.31.1"\nprecisions = []', "engines.onnx.precisions: is empty, expected fp32, "),
        ('"1.31.1"', '"latest"', "engines.onnx.version: expected a string that matches "),
        (
            'options = { mcpu = "cortex-a72" }',
            "",
            "engines.tvm.options.mcpu: is missing, expected the CPU in LLVM's spelling, "
            "such as 'cortex-a72'",
        ),
        ('"cortex-a72" }', '"-mcpu=cortex-a72" }', "engines.tvm.options.mcpu: expected a string"),
        (
            "mcpu =",
            'mcpus = "a", mcpu =',
            "engines.tvm.options.mcpus: unknown key; did you mean 'mcpu'? (known: mcpu)",
        ),
        (
            "[measure]",
            "[not_built]\nonnx = 'no'\n[measure]",
            "not_built.onnx: is built as well (engines.onnx), expected it in one place",
        ),
        (
            "[measure]",
            "[not_built]\nncnn = 'no'\n[measure]",
            "not_built.ncnn: unknown key; did you mean 'onnx'? (known: onnx, openvino, ",
        ),
        ("[32, 128]", "[128, 32]", "seq_lens: expected ascending integers, none twice, found [128"),
        ("[32, 128]", "[32, 32]", "seq_lens: expected ascending integers, none twice, found [32"),
        ("[32, 128]", "[]", "seq_lens: expected ascending integers"),
        ("[32, 128]", "[0, 128]", "seq_lens[0]: expected 1 to 8192, found 0"),
        ("longest = 512", "longest = 9000", "longest: expected 0 to 8192, found 9000"),
        (
            "threads = 4",
            "threads = 5",
            "measure.threads: expected at most the 4 cores of raspberry-pi-4, found 5",
        ),
        (
            "threads = 4",
            "threads = 4\ncpus = '2-4'",
            "measure.cpus: expected ascending CPUs below 4 such as 4-7 or 0,2, found '2-4'",
        ),
        ("threads = 4", "threads = 4\ncpus = 'big'", "measure.cpus: expected ascending CPUs"),
        ("runs = 100", "runs = 0", "measure.runs: expected 1 to 1000000, found 0"),
        (
            "[measure]",
            "[budget]\nlatency_s = 1\n[measure]",
            "budget.latency_s: unknown key; did you mean 'latency_ms'?",
        ),
        ("seq_lens", "seq_len", "seq_lens: is missing, expected an array"),
    ],
)
def test_a_wrong_target_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = own(tmp_path, old, new)
    with pytest.raises(InputError) as caught:
        load_target(path)
    assert str(caught.value).startswith(f"{path}: {complaint}")


def test_a_target_without_engines_is_refused(tmp_path: Path) -> None:
    path = own(tmp_path)
    path.write_text(path.read_text().split("[engines.onnx]")[0] + "[engines]\n")
    with pytest.raises(InputError, match="engines: is empty, expected one or more of onnx, "):
        load_target(path)


def test_a_target_whose_device_is_unknown(tmp_path: Path) -> None:
    path = own(tmp_path, 'device = "raspberry-pi-4"', 'device = "raspberry-pi-44"')
    with pytest.raises(InputError) as caught:
        load_target(path)
    assert caught.value.where == f"{path}: device"
    assert caught.value.message.startswith("unknown device profile 'raspberry-pi-44'; did you mean")


def test_a_recipe_that_is_wrong_is_named_by_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "loose.toml").write_text("calibration_texts = 0\n[bounds]\n")
    path = own(tmp_path, '"default"', '"loose.toml"')
    with pytest.raises(InputError) as caught:
        load_target(path)
    assert caught.value.where == f"{tmp_path}/loose.toml: bounds.fp32"
