# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What ``inspect`` and ``verify`` print of a bundle."""

import json
from pathlib import Path

import pytest

from edgeopt.bundle.verify import ArtifactCheck, Verification
from edgeopt.cli import bundle as command
from edgeopt.cli.output import emit
from tests.bundle import conftest
from tests.bundle.conftest import make_bundle, sources
from tests.commands import edgeopt

__all__ = ["make_bundle", "sources"]  # fixtures


def test_inspect_shows_what_is_in_it(make_bundle: conftest.MakeBundle) -> None:
    made = make_bundle()
    shown = edgeopt("inspect", str(made.path))
    assert shown.returncode == 0
    assert "tiny  sequence-classification, at most 16 tokens" in shown.stdout
    assert "labels  no, yes" in shown.stdout
    document = json.loads(edgeopt("inspect", str(made.path), "--json").stdout)
    assert document["digest"] == made.manifest.digest
    assert document["artifacts"][0]["artifact"]["engine"] == "onnx"


def test_verify_exits_with_1_for_a_changed_byte(make_bundle: conftest.MakeBundle) -> None:
    made = make_bundle()
    assert edgeopt("verify", str(made.path), "--hashes-only").returncode == 0
    (made.path / "tokenizer/tokenizer.json").write_text("{}")
    found = edgeopt("verify", str(made.path), "--json")
    assert found.returncode == 1
    assert list(json.loads(found.stdout)["changed"]) == ["tokenizer/tokenizer.json"]
    assert "1 wrong, 3 of 4 as the manifest says" in edgeopt("verify", str(made.path)).stdout


def test_square_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    check = ArtifactCheck(
        engine="onnx",
        precision="fp32",
        agrees=None,
        cosine_min=None,
        max_abs_error=None,
        reason="Install it with: pip install 'edgeopt[onnx]'",
    )
    found = Verification(files=1, changed={}, artifacts=(check,))
    emit({}, False, lambda console: command._render_verification(found, console))
    assert "pip install 'edgeopt[onnx]'" in capsys.readouterr().out


def test_no_such_bundle(tmp_path: Path) -> None:
    found = edgeopt("inspect", str(tmp_path))
    assert found.returncode == 5
    assert "is not a bundle: it has no manifest.json" in found.stderr
