# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from edgeopt.runtime.build import FLAGS, INCLUDES, agent_sources, library_sources
from tests.runtime.agent_runs import Case, write_model


def build(folder: Path, sanitizers: str) -> Path:
    """Build the agent for this host under ``sanitizers`` (gcc's -fsanitize)."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    program = folder / "edgeopt-agent"
    flags = [*FLAGS, "-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all"]
    sources = [str(path) for path in (*library_sources(), *agent_sources())]
    libraries = ["-ldl", "-lm", "-lpthread"]
    subprocess.run(["gcc", *flags, *INCLUDES, *sources, "-o", str(program), *libraries], check=True)
    return program


@pytest.fixture(scope="session")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent for this host, under the address and undefined-behaviour sanitizers."""
    return build(tmp_path_factory.mktemp("agent"), "address,undefined")


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
