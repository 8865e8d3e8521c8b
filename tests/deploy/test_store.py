# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The store, on this machine's own disk (the same shell scripts run on a board)."""

import io
import os
import shutil
import struct
import subprocess
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt import cache, progress
from edgeopt.boards import facts, scripts
from edgeopt.boards.facts import BoardFacts
from edgeopt.boards.local import LocalTransport
from edgeopt.boards.registry import BoardEntry
from edgeopt.boards.transport import Completed, Transport
from edgeopt.deploy.store import Removed, Store, link_word
from edgeopt.errors import BoardError, BusyError, InputError

pytestmark = pytest.mark.heavy  # copies whole bundles

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
        if scripts.RECEIVE_MANY in argv:
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
    assert home.startswith(f"{tmp_path}/home/.edgeopt/bundles/d1-")
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


def test_a_bundle_is_never_changed_by_another_push(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", a="1", b="2", engine="old", newer="new")
    first = store.push({"a": made["a"], "lib/e": made["engine"]}, "d1")
    second = store.push({"a": made["a"], "lib/e": made["newer"]}, "d1")
    third = store.push({"b": made["b"]}, "d1")
    assert len({first, second, third}) == 3
    assert Path(first, "lib/e").read_text() == "old"
    assert Path(second, "lib/e").read_text() == "new"
    assert sorted(os.listdir(third)) == [".files", "b"]
    assert store.push({"lib/e": made["engine"], "a": made["a"]}, "d1") == first


def test_programs_stay_executable(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", agent="#!/bin/sh\necho ran\n", data="x")
    made["agent"].chmod(0o755)
    home = store.push(made, "d1")
    assert LocalTransport().run([f"{home}/agent"], timeout_s=5).stdout == b"ran\n"
    assert not os.access(f"{home}/data", os.X_OK)


def deploy(store: Store, files: dict[str, Path], digest: str, name: str = "app") -> str:
    store.push(files, digest)
    return store.activate(name, files, digest)


def test_the_current_bundle_switches_and_the_last_is_kept(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", a="1", b="2")
    current = tmp_path / "home/.edgeopt/current-app"
    previous = current.with_name("previous-app")
    assert deploy(store, {"f": made["a"]}, "d1") == str(current)
    deploy(store, {"f": made["a"]}, "d1")  # again: the one before must not become itself
    assert not previous.is_symlink()
    deploy(store, {"f": made["b"]}, "d2")
    assert (current / "f").read_text() == "2"
    assert (previous / "f").read_text() == "1"
    assert sorted(p.name for p in current.parent.iterdir()) == [
        "bundles",
        "current-app",
        "previous-app",
        "store",
    ]


def test_engines_of_one_bundle_that_were_checked_apart_are_current_together(
    store: Store, tmp_path: Path
) -> None:
    made = make(tmp_path / "src", m="{}", one="1", two="2", rt="old", newer="new")
    current = tmp_path / "home/.edgeopt/current-app"
    first = {"m": made["m"], "one": made["one"], "lib/rt": made["rt"]}
    second = {"m": made["m"], "two": made["two"], "lib/rt": made["rt"]}
    deploy(store, first, "d1")
    before = os.readlink(current)
    deploy(store, second, "d1")
    assert {p.name for p in current.iterdir()} == {".files", "m", "one", "two", "lib"}
    both = os.readlink(current)
    for files in (first, second, first | second):  # all of it is there: nothing switches
        deploy(store, files, "d1")
        assert os.readlink(current) == both != before
    # What was not checked with these libraries does not come along.
    deploy(store, second | {"lib/rt": made["newer"]}, "d1")
    assert {p.name for p in current.iterdir()} == {".files", "m", "two", "lib"}
    assert (current.with_name("previous-app") / "one").read_text() == "1"
    deploy(store, second, "d2")
    assert {p.name for p in current.iterdir()} == {".files", "m", "two", "lib"}


def test_a_bundle_that_vanishes_is_not_made_current(
    board_facts: BoardFacts, tmp_path: Path
) -> None:
    class Vanishing(LocalTransport):
        """Removes every bundle that no link names just before the switch."""

        def run(
            self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
        ) -> Completed:
            if argv[2] == scripts.ACTIVATE and "d2" in argv[-1]:
                assert Store(LocalTransport(), board_facts).remove().bundles != ()
            return super().run(argv, stdin=stdin, timeout_s=timeout_s)

    store = Store(Vanishing(), board_facts)
    made = make(tmp_path / "src", a="1", b="2")
    deploy(store, {"f": made["a"]}, "d1")
    with pytest.raises(BoardError, match=r"bundles/d2-.* is not there"):
        deploy(store, {"f": made["b"]}, "d2")
    assert (tmp_path / "home/.edgeopt/current-app/f").read_text() == "1"


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
            if argv[2] == scripts.BUILD:
                return Completed(exit_status=2, stdout=b"", stderr=b"tar: Cannot hard link")
            return super().run(argv, stdin=stdin, timeout_s=timeout_s)

    made = make(tmp_path / "src", one="1", two="2")
    files = {"a b/c": made["one"], "two": made["two"], "-rf": made["two"]}
    home = Store(Plain(), board_facts).push(files, "d1")
    assert Path(home, "a b/c").read_text() == "1"
    assert Path(home, "two").read_text() == Path(home, "-rf").read_text() == "2"
    assert sorted(os.listdir(home)) == ["-rf", ".files", "a b", "two"]


def left(folder: Path) -> dict[str, list[str]]:
    names = {"bundles": sorted(n.rpartition("-")[0] for n in os.listdir(folder / "bundles"))}
    names |= {"store": sorted(os.listdir(folder / "store"))}
    return names | {"links": sorted(p.name for p in folder.iterdir() if p.is_symlink())}


def digests_of(removed: Removed) -> tuple[str, ...]:
    return tuple(name.rpartition("-")[0] for name in removed.bundles)


def test_bundles_that_no_link_names_are_removed(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "home/.edgeopt"
    assert store.remove() == Removed(bundles=(), freed_bytes=0)  # nothing there yet
    made = make(tmp_path / "src", shared="engine", one="1", two="2", three="3" * 9000, four="4")
    digests = {}
    for name in ("one", "two", "three", "four"):
        files = {"a b/m": made[name], "lib/e": made["shared"]}
        store.push(files, f"d-{name}")
        if name in ("one", "two"):
            store.activate("app", files, f"d-{name}")
        digests[name] = cache.file_sha256(made[name])
    assert digests_of(store.remove(["d-one", "d-four", "unknown"])) == ("d-four",)
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
    assert digests_of(found) == ("d-three",)
    assert 9000 <= found.freed_bytes < 100_000
    assert left(folder)["store"] == sorted([digests["one"], digests["two"], shared, "young"])
    assert Path(folder, "current-app/a b/m").read_text() == "2"
    assert Path(folder, "previous-app/lib/e").read_text() == "engine"
    home = store.push({"m": made["three"]}, "d-three")
    assert Path(home, "m").read_text() == "3" * 9000
    assert list((folder / "in-use").iterdir()) == []


def test_bundles_of_symbolic_links_are_removed_alike(
    wire_here: Counting, board_facts: BoardFacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a disk without hard links both ways to make them fail.
    monkeypatch.setattr(scripts, "BUILD", "exit 1")
    each = scripts.BUILD_EACH.replace('ln "$1', 'false "$1')
    monkeypatch.setattr(scripts, "BUILD_EACH", each)
    store = Store(wire_here, board_facts)
    made = make(tmp_path / "src", shared="engine", one="1", two="2")
    homes = [
        store.push({"m": made[name], "lib/e": made["shared"]}, f"d-{name}")
        for name in ("one", "two")
    ]
    folder = tmp_path / "home/.edgeopt"
    assert Path(homes[1], "lib/e").is_symlink()
    assert digests_of(store.remove(["d-one"])) == ("d-one",)
    assert left(folder)["store"] == sorted(cache.file_sha256(made[n]) for n in ("shared", "two"))
    assert Path(homes[1], "lib/e").read_text() == "engine"


def test_long_names_and_odd_letters(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", one="1")
    names = ["d/" * 60 + "f", "x" * 200, "größe €.bin", 'it\'s "quoted" $HOME', "-rf"]
    home = store.push(dict.fromkeys(names, made["one"]), "d1")
    for name in names:
        assert Path(home, name).read_text() == "1"


@pytest.mark.parametrize(("kept_bytes", "arrives"), [(1024, True), (0, False)])
def test_files_that_are_lost_under_way_are_sent_again(
    board_facts: BoardFacts, tmp_path: Path, kept_bytes: int, arrives: bool
) -> None:
    class Losing(LocalTransport):
        """Ends the stream after the first file, or before it: tar then sees nothing wrong."""

        def run(
            self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
        ) -> Completed:
            data = stdin if isinstance(stdin, bytes) else b"".join(stdin)
            if argv[2] == scripts.RECEIVE_MANY:  # a header and a block, or none
                data = data[:kept_bytes] + bytes(1024)
            return super().run(argv, stdin=data, timeout_s=timeout_s)

    made = make(tmp_path / "src", one="1", two="2")
    store = Store(Losing(), board_facts)
    if arrives:
        assert Path(store.push(made, "d1"), "two").read_text() == "2"
    else:
        with pytest.raises(BoardError, match=r"2 files could not be copied"):
            store.push(made, "d1")


def test_a_file_that_somebody_removes_meanwhile_is_sent_again(
    board_facts: BoardFacts, tmp_path: Path
) -> None:
    class Taking(LocalTransport):
        """Takes a file out of the store just before it is linked, once."""

        taken = False

        def run(
            self, argv: Sequence[str], *, stdin: bytes | Iterable[bytes] = b"", timeout_s: float
        ) -> Completed:
            if argv[2] == scripts.BUILD and not self.taken:
                self.taken = True
                (tmp_path / "home/.edgeopt/store" / cache.file_sha256(made["two"])).unlink()
            return super().run(argv, stdin=stdin, timeout_s=timeout_s)

    made = make(tmp_path / "src", one="1", two="2")
    home = Store(Taking(), board_facts).push(made, "d1")
    assert Path(home, "two").read_text() == "2"


def damage(path: Path, how: str) -> None:
    """Change a file as a disk does: in place, so that all its links have the new bytes."""
    data = path.read_bytes()
    changed = b"" if how == "empty" else data[:-1] + bytes([data[-1] ^ 1])
    with path.open("r+b") as file:
        file.write(changed)
        file.truncate()


@pytest.mark.parametrize("size", [10, 3_000_000])
@pytest.mark.parametrize("how", ["empty", "one bit"])
def test_a_damaged_file_of_the_store_is_sent_again_for_all_bundles(
    store: Store, wire_here: Counting, tmp_path: Path, how: str, size: int
) -> None:
    made = make(tmp_path / "src", shared="w" * size, one="1", two="2")
    homes = []
    for name in ("one", "two"):
        files = {"m": made[name], "lib/my e": made["shared"]}
        homes.append(store.push(files, name))
        store.activate(name, files, name)
    sha256 = cache.file_sha256(made["shared"])
    damage(tmp_path / "home/.edgeopt/store" / sha256, how)
    wire_here.sent.clear()
    files = {"m": made["two"], "lib/my e": made["shared"]}
    if how == "empty":  # its size tells
        assert store.push(files, "two") == homes[1]
    else:
        assert store.push(files, "two") == homes[1]
        assert wire_here.sent == []
        assert store.repair(files, "two") == ("lib/my e",)
    assert len(wire_here.sent) == 1
    for home in homes:
        assert Path(home, "lib/my e").read_text() == "w" * size
        assert sorted(os.listdir(home)) == [".files", "lib", "m"]
        assert os.listdir(f"{home}/lib") == ["my e"]
    assert store.repair(files, "two") == ()
    assert sorted(os.listdir(tmp_path / "home/.edgeopt/store")) == sorted(
        cache.file_sha256(path) for path in made.values()
    )


def test_a_switch_hashes_every_file_and_mends_what_is_damaged(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", one="1", two="2")
    store.push(made, "d1")
    damage(tmp_path / "home/.edgeopt/store" / cache.file_sha256(made["two"]), "one bit")
    store.activate("app", made, "d1")
    assert (tmp_path / "home/.edgeopt/current-app/two").read_text() == "2"


def test_a_switch_leaves_to_the_runtime_what_it_hashed_just_now(
    store: Store, tmp_path: Path
) -> None:
    made = make(tmp_path / "src", one="1", two="2")
    store.push(made, "d1")
    for path in made.values():
        damage(tmp_path / "home/.edgeopt/store" / cache.file_sha256(path), "one bit")
    store.activate("app", made, "d1", hashed={cache.file_sha256(made["one"])})
    current = tmp_path / "home/.edgeopt/current-app"
    assert [(current / name).read_text() for name in made] == ["0", "2"]


def test_how_long_files_were_sent_is_told(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", one="1", two="w" * 3_000_000)
    assert store.upload_ns == 0
    store.push(made, "d1")
    sent_ns = store.upload_ns
    assert sent_ns > 0
    store.push(made, "d1")
    assert store.upload_ns == sent_ns


def test_a_name_that_leads_elsewhere_is_put_right_in_one_step(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", one="1", two="2")
    files = {"one": made["one"], "a b/two": made["two"]}
    home = Path(store.push(files, "d1"))
    (home / "one").unlink()
    (home / "a b/two").unlink()
    (home / "a b/two").write_text("3")
    assert Path(store.push(files, "d1")) == home
    assert (home / "one").read_text() == "1"
    assert (home / "a b/two").read_text() == "2"


@pytest.mark.parametrize("shell", ["sh", "busybox sh"])
def test_a_name_that_somebody_else_has_just_put_right_stays(
    store: Store, tmp_path: Path, shell: str
) -> None:
    """It is the same file then, and mv refuses to put a file on itself."""
    words = shell.split()
    if shutil.which(words[0]) is None:
        pytest.skip(f"{words[0]} is not installed")
    made = make(tmp_path / "src", one="1")
    home = Path(store.push(made, "d1"))
    folder = tmp_path / "home/.edgeopt"
    line = f"{cache.file_sha256(made['one'])} one\n".encode()
    relinked = [*words, "-c", scripts.RELINK, "sh", str(folder), home.name]
    done = subprocess.run(relinked, input=line, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (home / "one").read_text() == "1"
    assert not list(home.glob(".part-*"))


def test_nothing_is_removed_while_somebody_deploys(
    store: Store, board_facts: BoardFacts, tmp_path: Path
) -> None:
    made = make(tmp_path / "src", one="1")
    home = store.push(made, "d1")
    other = Store(LocalTransport(), board_facts)
    with store.in_use(), other.in_use():  # deploys do not wait for one another
        with pytest.raises(BusyError, match=r"host: .*/\.edgeopt is in use"):
            other.remove()
        assert Path(home, "one").exists()
    assert digests_of(other.remove()) == ("d1",)
    assert list((tmp_path / "home/.edgeopt/in-use").iterdir()) == []


def test_what_dead_sessions_left_is_cleared_once_nobody_else_lives(
    store: Store, board_facts: BoardFacts, tmp_path: Path
) -> None:
    folder = tmp_path / "home/.edgeopt"
    with store.in_use():
        (entry,) = (folder / "in-use").iterdir()
        pid = entry.name.split("-")[1]
        part, build = folder / "store/h.part-1", folder / "bundles/.new-1"
        profile = folder / "operators-1_0.json"
        part.touch()
        build.mkdir()
        profile.touch()
        with Store(LocalTransport(), board_facts).in_use():
            assert part.exists()
        assert build.exists()
    # A power cut leaves the entry; the process id may be another program's by then.
    (folder / "in-use" / entry.name.replace(pid, str(os.getpid()), 1)).touch()
    entry.touch()
    with store.in_use():
        assert not part.exists()
        assert not build.exists()
        assert not profile.exists()
        assert len(list((folder / "in-use").iterdir())) == 1
    assert store.remove().bundles == ()


def test_a_session_waits_for_one_who_cleans(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "home/.edgeopt"
    with store.in_use():
        pass
    # A cleaner that lives for a second: entered as it would enter itself.
    hold = f'cd "$1"\n{scripts.IN_USE}\nbegin clean\necho entered\nsleep 1\necho done'
    lines = LocalTransport().lines(["sh", "-c", hold, "sh", str(folder)], timeout_s=20)
    assert next(lines) == "entered"
    with store.in_use():
        assert not list((folder / "in-use").glob("clean-*"))
    assert list(lines) == ["done"]


def test_a_home_that_is_read_only_is_told_before_the_upload(
    board_facts: BoardFacts, tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("a file where the home should be")
    with (
        pytest.raises(BoardError, match=r"/home/\.edgeopt cannot be written: mkdir: "),
        Store(LocalTransport(), board_facts).in_use(),
    ):
        pass


def test_others_may_read_and_not_write_whatever_the_umask(store: Store, tmp_path: Path) -> None:
    made = make(tmp_path / "src", a="1", large="w" * 3_000_000)
    before = os.umask(0o002)
    try:
        store.push({"deep/a": made["a"], "large": made["large"]}, "d1")
        os.umask(0o077)
        home = store.push({"deep/a": made["a"], "b": made["a"]}, "d1")
    finally:
        os.umask(before)
    folder = tmp_path / "home/.edgeopt"
    modes = {p.stat().st_mode & 0o777 for p in folder.rglob("*") if p.is_file()}
    assert modes == {0o644}
    assert {p.stat().st_mode & 0o777 for p in folder.rglob("*") if p.is_dir()} == {0o755}
    assert Path(home).stat().st_mode & 0o777 == 0o755


NAMES = ("app", "my-model_2.0", "_x", "-x", "..", ".", "current", "a b", "a-b", "a\nb", "a\tb")
ODD = (
    "\x1b[31m",
    "\u6a21\u578b",
    "größe",
    "GRÖSSE",
    "x" * 200,
    "x" * 201,
    "x" * 300,
    "",
    "a/b",
    "~",
)


def test_no_two_names_share_a_link_and_ordinary_ones_stay() -> None:
    words = {name: link_word(name) for name in (*NAMES, *ODD)}
    assert len(set(words.values())) == len(words)
    for name in ("app", "my-model_2.0", "_x", "-x", "a-b", "current", "x" * 200):
        assert words[name] == name
    assert words["a b"].startswith("a-b~")
    # A name that is the escaped form of another one is escaped itself.
    assert link_word(words["a b"]) != words["a b"]
    for word in words.values():
        assert len(f"previous-{word}") < 255
        assert word.isascii()
        assert word.isprintable()
        assert "/" not in word


@pytest.mark.parametrize("name", ["_x", "-x", "..", "a b", "a\nb", "\u6a21\u578b", "x" * 300])
def test_any_name_becomes_current(store: Store, tmp_path: Path, name: str) -> None:
    link = deploy(store, make(tmp_path / "src", a="1"), "d1", name)
    assert (Path(link) / "a").read_text() == "1"
    assert Path(link).parent == tmp_path / "home/.edgeopt"


@pytest.mark.board
def test_on_the_emulated_board(wire: Transport, emulated_board: BoardEntry, tmp_path: Path) -> None:
    # Other tests' bundles lie there, and a bundle may be named by how its digest begins.
    made = make(tmp_path / "src", a="one", b="two")
    store = Store(wire, facts.gather(wire))
    for digest, name in (("own-d1", "a"), ("own-d2", "b")):
        deploy(store, {"f": made[name]}, digest)
    read = ["cat", "/root/.edgeopt/current-app/f"]
    assert wire.run(read, timeout_s=10).stdout == b"two"
    store.push({"f": made["a"], "g": made["b"]}, "own-d3")
    with store.in_use(), pytest.raises(BusyError, match="is in use"):
        store.remove()
    assert digests_of(store.remove(["own-d2", "own-d3"])) == ("own-d3",)
    assert wire.run(read, timeout_s=10).stdout == b"two"
    store_file = f"/root/.edgeopt/store/{cache.file_sha256(made['b'])}"
    wire.run(["sh", "-c", 'printf 3wo > "$1"', "sh", store_file], timeout_s=10)
    assert store.repair({"f": made["b"]}, "own-d2") == ("f",)
    assert wire.run(read, timeout_s=10).stdout == b"two"
