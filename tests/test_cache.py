# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Entries appear once and whole, and go when they may: what is used stays."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edgeopt import cache, progress, retention
from edgeopt.errors import InputError

KEY = "0" * 64
BUILD = """
import os, sys, time
from pathlib import Path
from edgeopt import cache

def build(folder):
    (folder / "file").write_bytes(os.urandom({size}))
    (Path(sys.argv[1]) / f"built-{{os.getpid()}}").touch()
    time.sleep({sleep})

path = cache.entry("kind", "{key}", build)
print(path, flush=True)
{then}
"""


def test_a_file_is_hashed_once_and_again_if_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, before = tmp_path / "file", cache._remembered.cache_info()
    path.write_text("1")
    status = path.stat()
    one = cache.file_sha256(path)
    path.write_text("2")  # in the same tick of the clock, perhaps
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    two = cache.file_sha256(path)
    assert (one, two) == (hashlib.sha256(b"1").hexdigest(), hashlib.sha256(b"2").hexdigest())
    assert cache._remembered.cache_info() == before
    monkeypatch.setattr(cache, "_SETTLED_NS", 0)
    time.sleep(0.02)  # more than a tick
    assert [cache.file_sha256(path), cache.file_sha256(path)] == [two, two]
    assert cache._remembered.cache_info()[:2] == (before.hits + 1, before.misses + 1)
    path.write_text("1")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    time.sleep(0.02)
    assert cache.file_sha256(path) == one
    path.unlink()
    with pytest.raises(FileNotFoundError):
        cache.file_sha256(path)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "cache"
    monkeypatch.setenv("EDGEOPT_CACHE", str(place))
    monkeypatch.delenv("EDGEOPT_CACHE_LIMIT", raising=False)
    return place


def start(
    tmp_path: Path, *, size: int = 8, sleep: float = 0, key: str = KEY, then: str = ""
) -> subprocess.Popen[str]:
    """Start a process that builds an entry, and then does ``then``."""
    code = BUILD.format(size=size, sleep=sleep, key=key, then=then)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def user(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Start processes that use an entry until they are told to end."""
    started = []

    def begin(key: str) -> subprocess.Popen[str]:
        process = start(tmp_path, key=key, then="sys.stdin.read()")
        assert process.stdout is not None
        assert process.stdout.readline()
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def await_(condition: Callable[[], object]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def left(place: Path) -> list[str]:
    """Return what lies in the kind besides locks, an entry's own files left out."""
    return sorted(p.name for p in (place / "kind").iterdir() if p.suffix != ".lock")


def fill(size: int) -> Callable[[Path], None]:
    return lambda folder: (folder / "file").write_bytes(bytes(size)) and None


def made(number: int, size: int = 8, *, age_s: float = 0) -> Path:
    """Make an entry that no process uses, last used ``age_s`` ago."""
    path = retention.root() / "kind" / f"{number:032}"
    path.mkdir(parents=True)
    (path / "file").write_bytes(os.urandom(size))
    then = time.time() - age_s
    os.utime(path, (then, then))
    return path


@pytest.mark.heavy
def test_several_processes_build_an_entry_once(tmp_path: Path, home: Path) -> None:
    processes = [start(tmp_path, sleep=0.5) for _ in range(4)]
    told = {process.communicate()[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0] * 4
    assert told == {str(home / "kind" / KEY[:32])}
    assert len(list(tmp_path.glob("built-*"))) == 1
    assert left(home) == [KEY[:32]]


def test_an_exception_leaves_nothing(home: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyError("broken")

    for _ in range(2):
        with pytest.raises(KeyError):
            cache.entry("kind", KEY, build)
        assert left(home) == []
    assert (cache.entry("kind", KEY, fill(3)) / "file").read_bytes() == bytes(3)


def test_a_kill_within_a_build_leaves_no_entry_and_the_next_cleans_up(
    tmp_path: Path, home: Path
) -> None:
    process = start(tmp_path, sleep=60)
    await_(lambda: list(tmp_path.glob("built-*")))
    assert [name.startswith(f".{KEY[:32]}.build-") for name in left(home)] == [True]
    process.kill()
    process.communicate()
    assert not (home / "kind" / KEY[:32]).exists()
    # What another entry's build finds half built is removed, whoever was to build it.
    other = cache.entry("kind", "1" * 64, fill(3))
    assert left(home) == [other.name]
    entry = cache.entry("kind", KEY, fill(3))
    assert left(home) == [entry.name, other.name]


@pytest.mark.heavy
def test_what_is_being_built_is_not_cleaned(tmp_path: Path, home: Path) -> None:
    process = start(tmp_path, sleep=1)
    await_(lambda: list(tmp_path.glob("built-*")))
    assert retention.clean().removed == ()
    assert [name.startswith(f".{KEY[:32]}.build-") for name in left(home)] == [True]
    told, _ = process.communicate()
    assert Path(told.strip(), "file").stat().st_size == 8


@pytest.mark.heavy
def test_a_kill_within_cleaning_leaves_whole_entries_and_the_next_goes_on(
    tmp_path: Path, home: Path
) -> None:
    for number in range(40):
        path = made(number)
        for part in range(40):
            (path / str(part)).touch()
    code = "from edgeopt import retention; retention.clean()"
    process = subprocess.Popen([sys.executable, "-c", code])
    await_(lambda: any(".gone-" in name for name in left(home)))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if process.returncode == 0:
        pytest.skip("it was done before it was killed")
    for path in (home / "kind").glob("[0-9]*"):
        assert len(list(path.iterdir())) == 41
    retention.clean(lambda entry: False)
    assert [name for name in left(home) if name.startswith(".")] == []
    retention.clean()
    assert left(home) == []


def test_beyond_the_limit_the_least_recently_used_goes(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_CACHE_LIMIT", "1MB")
    oldest, older, newer = (made(i, 300_000, age_s=300 - i) for i in range(1, 4))
    assert cache.entry("kind", oldest.name, fill(1)) == oldest  # which is a use of it
    notes: list[str] = []
    with progress.listen(lambda event: notes.append(event.text)):
        built = cache.entry("kind", KEY, fill(300_000))
    assert left(home) == sorted([oldest.name, newer.name, built.name])
    assert not older.exists()
    (told,) = notes
    assert told == (
        "removed from the cache what was used least recently (1 of its entries, 0.3 MB): it holds "
        "0.001 GB at most (EDGEOPT_CACHE_LIMIT)"
    )
    assert sum(entry.bytes for entry in retention.entries()) <= 1_000_000


def test_without_a_limit_nothing_goes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEOPT_CACHE_LIMIT", "0")
    paths = [made(i, 300_000, age_s=1e6) for i in range(1, 4)]
    cache.entry("kind", KEY, fill(300_000))
    assert documented("clean")["removed"] == 0
    assert all(path.is_dir() for path in paths)


def test_a_system_without_fcntl_keeps_everything_until_it_is_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "fcntl", None)  # as on Windows
    monkeypatch.setenv("EDGEOPT_CACHE_LIMIT", "1kB")
    old = made(1, 5_000, age_s=10)
    built = cache.entry("kind", KEY, fill(5_000))
    assert cache.entry("kind", KEY, fill(1)) == built
    assert left(home) == sorted([old.name, built.name])
    assert [entry.name for entry in retention.clean().removed] == [old.name, built.name]
    assert left(home) == []


def test_what_a_living_process_uses_stays(
    home: Path, user: Callable[[str], subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_CACHE_LIMIT", "1kB")
    process = user("2" * 64)
    path = home / "kind" / ("2" * 32)
    os.utime(path, (0, 0))
    unused = made(1, age_s=10)
    built = cache.entry("kind", KEY, fill(5_000))
    assert left(home) == sorted([path.name, built.name])
    assert not unused.exists()
    done = retention.clean()
    assert [entry.name for entry in done.in_use] == [path.name, built.name]
    assert done.removed == ()
    process.kill()  # its lock ends with it
    process.communicate()
    assert [entry.name for entry in retention.clean().removed] == [path.name]
    assert (built / "file").stat().st_size == 5_000


def test_what_was_lent_to_a_process_stays_as_long_as_it_lives(home: Path) -> None:
    path = made(1)
    process = subprocess.Popen(["sleep", "60"])
    try:
        started = retention.start_ticks(process.pid)
        assert started is not None
        retention.lend(path, process.pid, started)
        assert [entry.name for entry in retention.clean().in_use] == [path.name]
    finally:
        process.kill()
        process.wait()
    assert [entry.name for entry in retention.clean().removed] == [path.name]
    assert len(list((home / ".using").iterdir())) == 0


def test_notes_of_processes_that_ended_do_not_pile_up(tmp_path: Path, home: Path) -> None:
    cache.entry("kind", KEY, fill(1))
    (own,) = (home / ".using").iterdir()
    for i in range(100):
        (home / ".using" / f"{i}.dead").write_text(f"kind/{KEY[:32]}\n")
    start(tmp_path).communicate()
    assert own.exists()
    assert len(list((home / ".using").iterdir())) == 2


def test_work_that_can_be_taken_up_is_in_use_while_it_goes_on(home: Path) -> None:
    path = made(1)
    stopped = cache.scratch("kind", path.name)
    assert stopped.__enter__() == path
    assert retention.clean().removed == ()
    assert not stopped.__exit__(KeyError, KeyError(), None)
    assert (path / "file").is_file()
    with cache.scratch("kind", path.name):
        pass
    assert not path.exists()


def test_a_cache_that_was_removed_by_hand_is_made_again(home: Path) -> None:
    cache.entry("kind", KEY, fill(1))
    shutil.rmtree(home)
    path = cache.entry("kind", KEY, fill(1))
    assert retention.clean().in_use == tuple(retention.entries())
    assert path.is_dir()


def test_a_kind_that_is_a_link_is_in_use_where_it_points(home: Path, tmp_path: Path) -> None:
    own = made(1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/kind").symlink_to(home / "kind")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EDGEOPT_CACHE", str(tmp_path / "other"))
        assert cache.entry("kind", own.name, fill(1)).samefile(own)
        assert retention.clean().removed == ()  # nothing of another cache's is removed
    assert [entry.name for entry in retention.clean().in_use] == [own.name]


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("5000", 5000), ("20GB", 20 * 10**9), ("1.5 TiB", 3 * 2**39), ("7kB", 7000)],
)
def test_sizes(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEOPT_CACHE_LIMIT", text)
    assert retention.limit() == size


def test_a_limit_that_is_none_is_told_before_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEOPT_CACHE_LIMIT", "a lot")

    def build(folder: Path) -> None:
        raise AssertionError

    with pytest.raises(InputError) as caught:
        cache.entry("kind", KEY, build)
    assert str(caught.value) == (
        "EDGEOPT_CACHE_LIMIT: expected a size such as 500MB or 20GB, found 'a lot'\n"
        "0 stands for no limit."
    )


def test_no_room_within_a_build_is_told(home: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").touch()
        Path("/dev/full").write_bytes(bytes(9))

    with pytest.raises(InputError, match="the cache cannot be written"):
        cache.entry("kind", KEY, build)
    assert left(home) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_a_full_disk_says_what_to_do_and_leaves_no_half_entry(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEOPT_CACHE", str(small_disk))
    kept = cache.entry("kind", "1" * 64, fill(100_000))
    with pytest.raises(InputError) as caught:
        cache.entry("kind", KEY, fill(2_000_000))
    assert str(caught.value) == (
        f"{small_disk / 'kind'}: the cache cannot be written (No space left on device)\n"
        "Free some space there ('edgeopt cache clean --to 5GB' removes what was used least "
        "recently), or set EDGEOPT_CACHE to a directory that has it."
    )
    assert left(small_disk) == [kept.name]
    assert cache.entry("kind", KEY, fill(100_000)).is_dir()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_a_cache_that_can_be_read_alone_gives_what_it_has(home: Path) -> None:
    path = made(1)
    for place in (home / "kind", home):
        place.chmod(0o555)
    try:
        assert cache.entry("kind", path.name, fill(1)) == path
        with pytest.raises(InputError, match="the cache cannot be written"):
            cache.entry("kind", KEY, fill(1))
    finally:
        for place in (home, home / "kind"):
            place.chmod(0o755)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeopt", "cache", *words], capture_output=True, text=True
    )


def documented(*words: str) -> dict[str, object]:
    done = command(*words, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.heavy
def test_the_commands_show_and_clean(home: Path) -> None:
    assert documented("show")["kinds"] == []
    day_s = 86_400
    old, new = made(1, 9_000, age_s=40 * day_s), made(2, 9_000, age_s=day_s)
    other = home / "other" / KEY[:32]
    other.mkdir(parents=True)
    shown = documented("show")
    assert (shown["cache"], shown["limit_bytes"], shown["entries"]) == (str(home), 20 * 10**9, 3)
    (kind, _) = shown["kinds"]  # type: ignore[misc]
    assert (kind["kind"], kind["entries"]) == ("kind", 2)
    assert kind["bytes"] >= 18_000
    assert kind["oldest_use"] < kind["last_use"]
    text = command("show").stdout
    assert text.startswith(f"cache  {home}\nsize   ")
    assert ", limit 20.0 GB\n" in text

    assert documented("clean")["removed"] == 0
    assert documented("clean", "--older-than", "30d", "--kind", "other")["removed"] == 0
    assert documented("clean", "--older-than", "30d")["removed"] == 1
    assert (old.exists(), new.exists()) == (False, True)
    assert documented("clean", "--kind", "other")["removed"] == 1
    third = made(3, 9_000)
    assert documented("clean", "--to", "17kB")["removed"] == 1
    assert (new.exists(), third.exists()) == (False, True)
    assert command("clean", "--all").stdout == f"removed 1 entries (16.4 kB); 0 B left in {home}\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--to", "many"], "--to: expected a size such as 500MB or 20GB, found 'many'"),
        (
            ["--older-than", "3"],
            "--older-than: expected an age such as 12h (hours), 30d (days) or 4w (weeks), "
            "found '3'",
        ),
        (["--all", "--to", "1GB"], "expected --all, or what is to be removed, not both"),
        (["--kind", "kin"], "the cache has no entries of kind 'kin'; did you mean 'kind'?"),
    ],
)
def test_what_is_wrong_with_a_command_is_told(words: list[str], told: str) -> None:
    path = made(1)
    done = command("clean", *words)
    assert done.returncode == 2
    assert told in done.stderr
    assert path.is_dir()
