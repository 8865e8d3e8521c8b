# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from edgeopt.runtime.build import agent_sources, library_sources
from tests.programs import SANITIZED, compiled
from tests.runtime.agent_runs import Case, write_model


@pytest.fixture(scope="session")
def agent() -> Path:
    """The agent for this host, under the address and undefined-behaviour sanitizers."""
    sources = (*library_sources(), *agent_sources())
    return compiled("edgeopt-agent", *SANITIZED, *sources, "-ldl", "-lm", "-lpthread")


@pytest.fixture(scope="session")
def onnxruntime_library() -> Path:
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        pytest.skip("onnxruntime is not installed")
    return next((Path(spec.origin).parent / "capi").glob("libonnxruntime.so.*"))


@pytest.fixture
def case(agent: Path, onnxruntime_library: Path, tmp_path: Path) -> Case:
    made = Case(agent, onnxruntime_library, tmp_path)
    write_model(made.model)
    return made
