# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Every test keeps its boards and their state apart from the user's own; one board serves all."""

import gc
import re
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from edgeopt.boards.registry import BoardEntry
from edgeopt.boards.transport import Transport
from edgeopt.garbage import rarely_collected


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop() -> Iterator[None]:
    """Spare the run what the collector would do: torch's and onnx's modules are a million objects,
    which it walks again and again."""
    with rarely_collected():
        gc.freeze()
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Collect with few walks of the collector."""
    with rarely_collected():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Refuse a file that imports torch if it is collected for fast tests: torch is half of the
    time that it takes to collect them, in every worker."""
    before = "torch" in sys.modules
    report = yield
    if not before and "torch" in sys.modules and _leaves_heavy_out(collector.config):
        report.outcome = "failed"
        report.longrepr = (
            f"collecting {collector.nodeid} imported torch, and it has tests that are not heavy; "
            "mark the file heavy (pytestmark = pytest.mark.heavy), or import torch with "
            "tests.lazily"
        )
    return report


@pytest.fixture(scope="session", autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point edgeopt at a configuration and state of this run's own; the cache stays shared."""
    home = tmp_path_factory.mktemp("edgeopt-home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEOPT_CONFIG", str(home / "config"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        yield home


@pytest.fixture(scope="session")
def emulated_board() -> Iterator[BoardEntry]:
    """A running user-mode Raspberry Pi 4; skipped if this machine cannot run one."""
    from edgeopt.boards.emulated import lifecycle, user_mode
    from edgeopt.errors import BoardError, MissingDependencyError
    from edgeopt.target import load_target

    if (reason := user_mode.missing()) is not None:
        pytest.skip(f"no user-mode board here: {reason}")
    try:
        entry = lifecycle.up("test-pi", load_target("raspberry-pi-4"), mode="user")
    except (BoardError, MissingDependencyError) as exc:
        pytest.skip(f"no user-mode board here: {exc}")
    yield entry
    lifecycle.forget("test-pi")


@pytest.fixture
def wire(emulated_board: BoardEntry) -> Iterator[Transport]:
    """An SSH connection to that board."""
    from edgeopt.boards import open_transport

    with open_transport(emulated_board) as transport:
        yield transport


LONG = (
    "tests/test_main_job.py",
    "tests/runtime/test_wheel.py",
    "tests/test_evaluate_pipeline.py",
    "tests/test_evaluate_images.py",
    "tests/test_pipeline.py",
    "tests/boards/test_faults.py",
    "tests/test_aarch64_host.py",  # waits for the builds of test_wheel
    "tests/boards/emulated/test_lifecycle.py",
    "tests/compression/test_tokens.py",
    "tests/layouts/test_checkpoints.py",
    "tests/layouts/test_on_a_board.py",
    "tests/test_tensorflow_bundle.py",
    "tests/runtime/test_tokenizer.py",
    "tests/runtime/test_tokenizer_families.py",
    "tests/runtime/test_tokenizer_steps.py",
    "tests/test_vision_bundle.py",
    "tests/test_exported_program.py",
    "tests/runtime/test_armv7_engine.py",
    "tests/runtime/examples/test_native.py",
    "tests/test_compress_pipeline.py",
    "tests/boards/test_liar.py",
    "tests/boards/test_login_shell.py",
)
"""Files that take longest. A worker takes whole files, and would else begin with the longest of
these when the others are done: it has few tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of ``LONG`` first, in its order."""

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(item.config.rootpath).as_posix()
        return LONG.index(path) if path in LONG else len(LONG)

    items.sort(key=place)


_ALL_HEAVY = re.compile(r"^pytestmark = (\[\s*)?pytest\.mark\.heavy\b", re.MULTILINE)


def _leaves_heavy_out(config: pytest.Config) -> bool:
    return re.match("not heavy( and |$)", config.option.markexpr) is not None


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files alone that are heavy as a whole, if no heavy test is asked for: to collect one
    imports toolchains, which takes longer than all the others."""
    if collection_path.suffix != ".py" or not _leaves_heavy_out(config):
        return None
    return True if _ALL_HEAVY.search(collection_path.read_text(encoding="utf-8")) else None
