# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``import edgeopt`` and ``edgeopt --help`` pull in, and how they behave."""

import json
import subprocess
import sys

import pytest

import edgeopt
from edgeopt.cli import _COMMANDS

HEAVY = {
    "numpy",
    "torch",
    "transformers",
    "onnx",
    "onnxruntime",
    "tensorflow",
    "ai_edge_litert",
    "litert_torch",
    "openvino",
    "nncf",
    "tvm",
    "paramiko",
    "rich",
}


def modules_after(code: str) -> set[str]:
    code += "\nimport sys, json; print('\\n' + json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(out.stdout.splitlines()[-1]))


def test_import_pulls_in_no_toolchain() -> None:
    assert not modules_after("import edgeopt") & HEAVY


def test_help_pulls_in_no_toolchain_and_no_command() -> None:
    code = "from edgeopt.cli import cli; cli.main(['--help'], standalone_mode=False)"
    loaded = modules_after(code)
    assert not loaded & HEAVY
    commands = {
        "compile",
        "compress",
        "profile",
        "board",
        "bundle",
        "targets",
        "runtime",
        "recipes",
    }
    assert not {f"edgeopt.cli.{name}" for name in commands} & loaded


def test_options_are_shown_without_a_toolchain() -> None:
    arguments = ["recipes", "show", "distil", "--json"]
    code = f"from edgeopt.cli import cli; cli.main({arguments}, standalone_mode=False)"
    assert not modules_after(code) & HEAVY


@pytest.mark.parametrize("name", _COMMANDS)
def test_every_command_has_help(name: str) -> None:
    out = subprocess.run(
        [sys.executable, "-m", "edgeopt", name, "--help"], capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    assert "--json" in out.stdout or "Commands:" in out.stdout


def test_every_public_name_can_be_had() -> None:
    for name in edgeopt.__all__:
        assert getattr(edgeopt, name).__name__.rpartition(".")[2] == name
