# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A slice of ``tools/faults``: deploys that are broken on a real SSH connection to this machine."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeopt.boards import open_transport, registry
from edgeopt.bundle import open_bundle
from edgeopt.deploy.store import Store
from tests.boards import faults
from tests.boards.faults import NativeSite, site_of
from tests.boards.native import Native

pytestmark = pytest.mark.heavy  # downloads an engine, compiles the runtime


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeSite]:
    pytest.importorskip("onnx", reason="needs edgeopt[onnx]")
    with site_of("native", tmp_path_factory.mktemp("faults") / "site") as site:
        assert isinstance(site, NativeSite)
        yield site


@pytest.mark.parametrize(
    ("row", "places"),
    [
        ("kill", [0.5]),
        ("power", [0.7]),
        ("reset", [0.6]),
        ("agent", [0.5]),
        ("two-hosts", [0.2]),
        ("clean", [0.6, 0.9]),
        ("damage", [0.1, 0.5]),
        ("names", [0.2]),
    ],
)
def test_the_old_version_or_the_new_one(site: NativeSite, row: str, places: list[float]) -> None:
    for place in places:
        faults.ROWS[row].one(site, place)


def profile(site: NativeSite, bundle: Path, output: Path, code: int) -> dict[str, Any]:
    words = ["profile", bundle, "--board", site.name, "--warmup", "0", "--runs", "2", "--json"]
    done = site.start(*words, "-o", output)
    assert done.wait() == code, done.out
    assert "Traceback" not in done.out
    document: dict[str, Any] = json.loads(done.out[done.out.index("{") :])
    return document


def test_a_measurement_stays_though_the_switch_fails(site: NativeSite, tmp_path: Path) -> None:
    output = tmp_path / "m.json"
    bundle = site.make(name="stuck")
    (site.folder / "current-stuck").mkdir()  # the user's own
    error = profile(site, bundle, output, 6)["error"]
    assert error["kind"] == "BoardError"
    assert "the outputs agree, but the bundle did not become the current one" in error["message"]
    assert "current-stuck is not a link" in error["message"]
    assert f"What was measured is in {output}" in error["message"]
    assert len(json.loads(output.read_text())["runs"]) == 1
    (site.folder / "current-stuck").rmdir()
    again = profile(site, bundle, tmp_path / "again.json", 0)
    assert again["current"] == str(site.folder / "current-stuck")
    assert site.whole("stuck") == open_bundle(bundle).manifest.digest


def test_a_folder_that_cannot_be_written_is_the_boards_fault(
    site: NativeSite, tmp_path: Path
) -> None:
    store = site.folder / "store"
    moved = site.folder / "moved"
    store.rename(moved)
    try:
        store.write_text("a file")
        error = profile(site, site.make(), tmp_path / "m.json", 6)["error"]
        assert "cannot be written: mkdir: " in error["message"]
    finally:
        store.unlink()
        moved.rename(store)
    assert not (tmp_path / "m.json").exists()


def test_a_board_that_runs_one_program_at_a_time(site: NativeSite, tmp_path: Path) -> None:
    with Native(tmp_path / "home", site.board.key, max_sessions=1) as board:
        entry = registry.find(site.name)
        registry.save(
            registry.BoardEntry(
                name="one", kind="ssh", user="pi", host="127.0.0.1", port=board.port,
                key=entry.key, host_key=board.host_key,
            )
        )  # fmt: skip
        done = site.start(
            "profile", site.base, "--board", "one", "--warmup", "0", "--runs", "2",
            "-o", tmp_path / "m.json",
        )  # fmt: skip
        assert done.wait() == 0, done.out
        assert "runs one program at a time" in done.out
        assert os.path.exists(tmp_path / "home/.edgeopt/current-case/manifest.json")
        registry.remove("one")


def test_a_session_ends_on_the_board_with_its_host(site: NativeSite) -> None:
    from edgeopt.boards import facts

    with open_transport(registry.find(site.name)) as transport:
        store = Store(transport, facts.gather(transport))
        with store.in_use():
            assert len(list((site.folder / "in-use").iterdir())) == 1
            site.link.reset()
            site.quiet(5)
            assert list((site.folder / "in-use").iterdir()) == []
