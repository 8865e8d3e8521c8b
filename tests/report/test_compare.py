# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from edgeopt.measure.compare import Comparison, of_measurements, of_trial
from edgeopt.report.compare import render
from tests.measure.test_trial import session, trial


def printed(found: Comparison) -> str:
    console = Console(file=io.StringIO(), width=300)
    render(found, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_verdict_stands_below_its_interval() -> None:
    text = printed(of_trial(trial(1.05), Path("t.json")))
    assert "A: tiny, onnx fp32, 1.31.1, 32 tokens, 1 thread" in text
    assert "B: tiny, onnx int8, 1.31.1, 32 tokens, 1 thread" in text
    assert "B is slower than A, by 4.7%" in text
    assert "emulat" not in text
    assert "B is faster than A, by 5.0%" in printed(of_trial(trial(1 / 1.05), Path("t.json")))


def test_no_verdict_comes_with_what_it_would_take() -> None:
    text = printed(of_trial(trial(), Path("t.json")))
    assert "cannot tell apart" in text
    assert "more runs of each" in text or "any difference is below 1%" in text or "5,000" in text


def test_emulated_times_are_never_a_devices() -> None:
    text = printed(of_trial(replace(trial(1.05), emulated=True), Path("t.json")))
    lines = [line for line in text.splitlines() if " ms" in line or "times as long" in line]
    assert len(lines) == 2
    assert all("emulator" in line for line in lines)
    assert "B is slower than A in the emulator" in text
    assert "pi is emulated: these are times of the emulator" in text


def test_single_sessions_say_what_the_interval_lacks(tmp_path: Path) -> None:
    found = of_measurements(session(tmp_path, "a", 1.0), session(tmp_path, "b", 1.2))
    text = printed(found)
    assert "the sessions differ: B's runs took +" in text
    assert "is not in the interval" in text
    assert "B is slower than A" not in text
