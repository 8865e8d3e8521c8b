"""The store, on this machine's own disk (the same shell scripts run on a board)."""

import io
import os
import struct
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt import cache, progress
from edgeopt.boards import deploy, facts
from edgeopt.boards.deploy import Removed, Store
from edgeopt.boards.facts import BoardFacts
from edgeopt.boards.local import LocalTransport
from edgeopt.boards.registry import BoardEntry
from edgeopt.boards.transport import Completed, Transport
from edgeopt.errors import BoardError, InputError

HERE = facts.gather(LocalTransport())


class Counting(LocalTransport):
    """Notes what is uploaded."""

    def __init__(self) -> None:
        self.sent: list[str] = []

    def put(self, local: Path, remote: str, **options: object) -> None:
        self.sent.append(remote.rpartition("/")[2])
        super().put(local, remote, **options)  # type: ignore[arg-type]

    def run(
        self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
    ) -> Completed:
        data = stdin if isinstance(stdin, bytes) else b"".join(stdin)
        if "tar -x" in argv[2] and "sha256sum" in argv[2]:
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                self.sent += archive.getnames()
        return super().run(argv, stdin=data, timeout_s=timeout_s)


@pytest.fixture
def board_facts(tmp_path: Path) -> BoardFacts:
    return replace(HERE, home=str(tmp_path / "home"))


@pytest.fixture
def wire_here() -> Counting:
    return Counting()


@pytest.fixture
def store(wire_here: Counting, board_facts: BoardFacts) -> Store:
    return Store(wire_here, board_facts)


def make(folder: Path, **texts: str) -> dict[str, Path]:
    folder.mkdir(exist_ok=True)
    files = {}
    for name, text in texts.items():
        files[name] = folder / name
        files[name].write_text(text)
    return files


def test_a_bundle_is_laid_out_as_its_names_say(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", manifest="{}", weights="w" * 1000)
    home = store.push({"m.json": made["manifest"], "deep/er/my w": made["weights"]}, "d1")
    assert home == f"{tmp_path}/home/.edgeopt/bundles/d1"
    assert Path(home, "m.json").read_text() == "{}"
    assert Path(home, "deep/er/my w").read_text() == "w" * 1000


def test_what_is_there_already_is_not_sent_again(
    store: Store, wire_here: Counting, tmp_path: Path
) -> None:
    made = make(tmp_path / "src", a="1", b="2", same="2")
    store.push({"a": made["a"], "b": made["b"], "same": made["same"]}, "d1")
    assert sorted(wire_here.sent) == sorted({cache.file_sha256(path) for path in made.values()})
    wire_here.sent.clear()
    more = make(tmp_path / "src", c="3")
    store.push({"a": made["a"], "c": more["c"]}, "d2")
    assert wire_here.sent == [cache.file_sha256(more["c"])]


def test_small_files_go_together_and_large_ones_alone(
    store: Store, wire_here: Counting, tmp_path: Path
) -> None:
    made = make(tmp_path / "src", **{f"f{n}": f"text {n}" * n for n in range(1, 40)})
    made |= make(tmp_path / "src", large="w" * 3_000_000)
    made["f7"].chmod(0o755)
    told: list[int] = []
    with progress.listen(lambda event: told.append(event.done)):
        home = store.push(made, "d1")
    for name, path in made.items():
        assert Path(home, name).read_bytes() == path.read_bytes()
        assert os.access(f"{home}/{name}", os.X_OK) == (name == "f7")
    assert wire_here.sent[-1] == cache.file_sha256(made["large"])
    assert max(told) == sum(path.stat().st_size for path in made.values())
    assert not list((tmp_path / "home/.edgeopt/store").glob("*.part-*"))


def test_a_small_file_that_arrives_damaged_is_refused(
    board_facts: BoardFacts, tmp_path: Path
) -> None:
    class Damaging(LocalTransport):
        """Turns an "a" into a "b" under way."""

        def run(
            self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
        ) -> Completed:
            data = stdin if isinstance(stdin, bytes) else b"".join(stdin)
            return super().run(argv, stdin=data.replace(b"a a", b"a b"), timeout_s=timeout_s)

    made = make(tmp_path / "src", good="ok", bad="a a")
    bad = cache.file_sha256(made["bad"])
    with pytest.raises(BoardError, match=rf"2 files could not be copied to .*: {bad}: FAILED"):
        Store(Damaging(), board_facts).push(made, "d1")
    assert list((tmp_path / "home/.edgeopt/store").iterdir()) == []


def test_a_second_push_adds_to_the_bundle(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", a="1", b="2")
    store.push({"a": made["a"]}, "d1")
    home = store.push({"b": made["b"]}, "d1")
    assert sorted(os.listdir(home)) == ["a", "b"]


def test_programs_stay_executable(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", agent="#!/bin/sh\necho ran\n", data="x")
    made["agent"].chmod(0o755)
    home = store.push(made, "d1")
    assert LocalTransport().run([f"{home}/agent"], timeout_s=5).stdout == b"ran\n"
    assert not os.access(f"{home}/data", os.X_OK)


def test_the_current_bundle_switches_and_the_last_is_kept(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", a="1", b="2")
    store.push({"f": made["a"]}, "d1")
    store.push({"f": made["b"]}, "d2")
    current = tmp_path / "home/.edgeopt/current-app"
    previous = current.with_name("previous-app")
    store.activate("app", "d1")
    store.activate("app", "d1")  # again: the one before must not become itself
    assert not previous.is_symlink()
    store.activate("app", "d2")
    assert (current / "f").read_text() == "2"
    assert (previous / "f").read_text() == "1"
    assert sorted(p.name for p in current.parent.iterdir()) == [
        "bundles",
        "current-app",
        "previous-app",
        "store",
    ]


def test_a_bundle_that_is_not_there_is_not_made_current(store: Store, tmp_path: Path) -> None:
    store.push(make(tmp_path / "src", a="1"), "d1")
    store.activate("app", "d1")
    with pytest.raises(BoardError, match="bundles/d2 is not there"):
        store.activate("app", "d2")
    assert os.readlink(tmp_path / "home/.edgeopt/current-app") == "bundles/d1"


def test_a_disk_that_is_too_small_is_told_before_the_upload(
    wire_here: Counting, board_facts: BoardFacts, tmp_path: Path
) -> None:
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(1 << 20)
    free = os.statvfs(tmp_path)

    class Grown(Store):
        """Says of each file that it has the size of the whole disk."""

        def _upload(self, name: str, path: Path):  # type: ignore[no-untyped-def]
            return replace(super()._upload(name, path), size_bytes=free.f_bavail * free.f_frsize)

    with pytest.raises(BoardError, match=r"MB are to be uploaded, .* MB are free on the disk of"):
        Grown(wire_here, board_facts).push({"huge": huge}, "d1")
    assert wire_here.sent == []


@pytest.mark.parametrize(("machine", "name"), [(183, "aarch64"), (40, "armv7"), (243, "ELF")])
def test_programs_for_another_architecture_are_refused(
    wire_here: Counting, board_facts: BoardFacts, tmp_path: Path, machine: int, name: str
) -> None:
    library = tmp_path / "lib.so"
    library.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, machine))
    store = Store(wire_here, replace(board_facts, arch="x86_64"))
    with pytest.raises(BoardError, match=rf"lib/x is built for {name}.*, this board is x86_64"):
        store.push({"lib/x": library}, "d1")
    assert wire_here.sent == []


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a//b", "", "a\nb", "./a", " a"])
def test_names_that_leave_the_bundle_are_refused(store: Store, tmp_path: Path, name: str) -> None:
    made = make(tmp_path / "src", a="1")
    with pytest.raises(InputError, match="cannot be a file's name in a bundle"):
        store.push({name: made["a"]}, "d1")


@pytest.mark.parametrize("digest", ["../d", "a b", "", ".x"])
def test_digests_that_are_no_words_are_refused(store: Store, digest: str) -> None:
    with pytest.raises(InputError, match="cannot be a bundle digest"):
        store.push({}, digest)


def test_uploads_that_a_dead_session_left_are_cleared(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", a="1")
    store.push(made, "d1")
    kept, stale = (tmp_path / "home/.edgeopt/store" / f"{n}.part-1" for n in "ab")
    kept.touch()
    stale.touch()
    os.utime(stale, (0, 0))
    store.push(made, "d1")
    assert kept.exists()
    assert not stale.exists()


def test_a_board_whose_tar_makes_no_links(board_facts: BoardFacts, tmp_path: Path) -> None:
    class Plain(LocalTransport):
        """Refuses tars of links, as a tar on a disk without hard links does."""

        def run(
            self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
        ) -> Completed:
            if argv[2] == deploy._LINK:
                return Completed(exit_status=2, stdout=b"", stderr=b"tar: Cannot hard link")
            return super().run(argv, stdin=stdin, timeout_s=timeout_s)

    made = make(tmp_path / "src", one="1", two="2")
    files = {"a b/c": made["one"], "two": made["two"]}
    home = Store(Plain(), board_facts).push(files, "d1")
    assert Path(home, "a b/c").read_text() == "1"
    assert Path(home, "two").read_text() == "2"


def left(folder: Path) -> dict[str, list[str]]:
    names = {n: sorted(os.listdir(folder / n)) for n in ("bundles", "store")}
    return names | {"links": sorted(p.name for p in folder.iterdir() if p.is_symlink())}


def test_bundles_that_no_link_names_are_removed(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "home/.edgeopt"
    assert store.remove() == Removed(bundles=(), freed_bytes=0)  # nothing there yet
    made = make(tmp_path / "src", shared="engine", one="1", two="2", three="3" * 9000, four="4")
    digests = {}
    for name in ("one", "two", "three", "four"):
        store.push({"a b/m": made[name], "lib/e": made["shared"]}, f"d-{name}")
        digests[name] = cache.file_sha256(made[name])
    store.activate("app", "d-one")
    store.activate("app", "d-two")
    assert store.remove(["d-one", "d-four", "unknown"]).bundles == ("d-four",)
    shared = cache.file_sha256(made["shared"])
    stays = [digests["one"], digests["two"], digests["three"], shared]
    assert left(folder) == {
        "bundles": ["d-one", "d-three", "d-two"],
        "store": sorted(stays),
        "links": ["current-app", "previous-app"],
    }
    # What is on its way into a bundle stays; what a dead session left does not.
    (folder / "store/young").touch()
    (folder / "store/old").touch()
    os.utime(folder / "store/old", (0, 0))
    found = store.remove()
    assert found.bundles == ("d-three",)
    assert 9000 <= found.freed_bytes < 100_000
    assert left(folder)["store"] == sorted([digests["one"], digests["two"], shared, "young"])
    assert Path(folder, "current-app/a b/m").read_text() == "2"
    assert Path(folder, "previous-app/lib/e").read_text() == "engine"
    store.push({"m": made["three"]}, "d-three")
    assert (folder / "bundles/d-three/m").read_text() == "3" * 9000


def test_bundles_of_symbolic_links_are_removed_alike(
    wire_here: Counting, board_facts: BoardFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a disk without hard links both ways to make them fail.
    monkeypatch.setattr(deploy, "_LINK", "exit 1")
    monkeypatch.setattr(deploy, "_LINK_EACH", deploy._LINK_EACH.replace("ln -f", "false"))
    store = Store(wire_here, board_facts)
    made = make(tmp_path / "src", shared="engine", one="1", two="2")
    for name in ("one", "two"):
        store.push({"m": made[name], "lib/e": made["shared"]}, f"d-{name}")
    folder = tmp_path / "home/.edgeopt"
    assert (folder / "bundles/d-two/lib/e").is_symlink()
    assert store.remove(["d-one"]).bundles == ("d-one",)
    assert left(folder)["store"] == sorted(cache.file_sha256(made[n]) for n in ("shared", "two"))
    assert (folder / "bundles/d-two/lib/e").read_text() == "engine"


def test_long_names_and_odd_letters(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", one="1")
    names = ["d/" * 60 + "f", "x" * 200, "größe €.bin", 'it\'s "quoted" $HOME', "-rf"]
    home = store.push(dict.fromkeys(names, made["one"]), "d1")
    for name in names:
        assert Path(home, name).read_text() == "1"


def test_a_file_that_is_lost_under_way_is_noticed(board_facts: BoardFacts, tmp_path: Path) -> None:
    class Losing(LocalTransport):
        """Ends the stream after the first file, where tar sees nothing wrong."""

        def run(
            self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
        ) -> Completed:
            data = stdin if isinstance(stdin, bytes) else b"".join(stdin)
            kept = data[:1024] if "sha256sum" in argv[2] else data  # a header and a block
            return super().run(argv, stdin=kept, timeout_s=timeout_s)

    with pytest.raises(BoardError, match="two did not arrive"):
        Store(Losing(), board_facts).push(make(tmp_path / "src", one="1", two="2"), "d1")


@pytest.mark.board
def test_on_the_emulated_board(wire: Transport, emulated_board: BoardEntry, tmp_path: Path) -> None:
    made = make(tmp_path / "src", a="one", b="two")
    store = Store(wire, facts.gather(wire))
    for digest, name in (("d1", "a"), ("d2", "b")):
        store.push({"f": made[name]}, digest)
        store.activate("app", digest)
    read = ["cat", "/root/.edgeopt/current-app/f"]
    assert wire.run(read, timeout_s=10).stdout == b"two"
    store.push({"f": made["a"], "g": made["b"]}, "d3")
    assert store.remove(["d2", "d3"]).bundles == ("d3",)
    assert wire.run(read, timeout_s=10).stdout == b"two"
