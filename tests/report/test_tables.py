# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edgeopt.bundle import Bundle
from edgeopt.report.tables import artifacts
from tests.bundle.conftest import manifest


def test_no_figure_is_cut_on_80_columns() -> None:
    (entry,) = manifest().artifacts
    graphs = {"main": replace(entry.artifact.main, seq_lens=(16, 32, 64, 128, 256))}
    entry = replace(
        entry,
        artifact=replace(entry.artifact, engine="openvino", precision="int8", graphs=graphs),
        engine_version="2026.4.0",
        bytes=123_456_789,
        fidelity=replace(entry.fidelity, cosine_min=0.98765, max_abs_error=0.0123),
        judged={
            "samples": 32, "error": 0.23, "decisions": 0.952, "order": 0.9876, "context": 0.0034,
        },
    )  # fmt: skip
    console = Console(file=io.StringIO(), width=80, soft_wrap=True)
    artifacts(Bundle(path=Path("b"), manifest=manifest(artifacts=(entry,))), console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    words = shown.split()
    for figure in ("123.5", "0.98765", "1.2e-02", "2.3e-01", "95.2%", "0.9876", "3.4e-03"):
        assert figure in words, shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines()[:3])) <= 80
