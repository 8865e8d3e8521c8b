# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edgeopt import boards
from edgeopt.boards import registry
from edgeopt.boards.emulated import full_system, lifecycle, user_mode
from edgeopt.boards.registry import BoardEntry
from edgeopt.boards.transport import Transport
from edgeopt.errors import BoardError, InputError, MissingDependencyError
from edgeopt.target import Target, load_target

PI = load_target("raspberry-pi-4")
QEMU_7_2 = (
    *("a64fx", "cortex-a35", "cortex-a53", "cortex-a57", "cortex-a7", "cortex-a72", "cortex-a76"),
)


@pytest.fixture
def boards_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where boards are kept, in a state and configuration of this test's own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("EDGEOPT_CONFIG", str(tmp_path / "config"))
    return tmp_path / "edgeopt/boards"


@pytest.fixture
def own(emulated_board: BoardEntry, boards_folder: Path) -> Path:
    """The same, if boards can be started at all."""
    return boards_folder


@pytest.fixture
def pi(own: Path) -> Iterator[BoardEntry]:
    yield lifecycle.up("pi", PI, mode="user")
    lifecycle.forget("pi")


def read(wire: Transport, path: str) -> bytes:
    return wire.run(["cat", path], timeout_s=20).stdout


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("galaxy-s23", "this is an Android device"),
        ("iphone-13", "this device has no shell and cannot be emulated"),
        ("intel-n100", "emulated boards are aarch64 or armv7, this device is x86_64"),
        ("host", "Use the board 'host'"),
    ],
)
def test_what_cannot_be_emulated_is_refused_with_a_way_out(target: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        lifecycle.up("refused", load_target(target))
    assert registry.get("refused") is None


@pytest.mark.parametrize(
    ("target", "core", "difference"),
    [
        ("raspberry-pi-zero-2w", "cortex-a53", None),
        ("raspberry-pi-4", "cortex-a72", None),
        ("raspberry-pi-5", "cortex-a76", None),
        ("raspberry-pi-2", "cortex-a7", None),
        ("jetson-nano", "cortex-a57", None),
        ("jetson-orin-nano", "cortex-a76", "cortex-a78ae is emulated as cortex-a76, without "),
        ("rk3588", "cortex-a76", "all 8 cores are equal"),
    ],
)
def test_the_core_is_the_devices_or_says_what_differs(
    target: str, core: str, difference: str | None
) -> None:
    found, told = lifecycle.choose_core(load_target(target).device, QEMU_7_2)
    assert found.name == core
    assert (told is None) if difference is None else (told or "").startswith(difference)


def test_a_32_bit_board_has_no_full_system() -> None:
    with pytest.raises(InputError, match="full-system boards are aarch64, this device is armv7"):
        lifecycle.up("refused", load_target("raspberry-pi-2"), mode="full-system")


def test_a_core_that_qemu_lacks_altogether_is_refused() -> None:
    with pytest.raises(InputError, match="the installed QEMU models no core like cortex-a76"):
        lifecycle.choose_core(load_target("raspberry-pi-5").device, ("cortex-a53",))


def test_names_are_checked_before_anything_starts() -> None:
    with pytest.raises(InputError, match="'host' is this machine"):
        lifecycle.up("host", PI)


@pytest.mark.board
def test_up_again_finds_the_same_board(pi: BoardEntry, own: Path) -> None:
    first = lifecycle.running("pi")
    assert lifecycle.up("pi", PI) == pi
    assert lifecycle.running("pi") == first
    with pytest.raises(InputError, match=r"'pi' is running as raspberry-pi-4 \(user\)"):
        lifecycle.up("pi", load_target("raspberry-pi-5"))


@pytest.mark.board
def test_two_at_once_start_one_board(own: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(lambda _: lifecycle.up("pi", PI, mode="user"), range(2))
    try:
        assert one == two
        assert len(_processes_of(own)) == 1
    finally:
        lifecycle.forget("pi")


@pytest.mark.board
def test_the_home_stays_the_system_does_not_and_the_key_is_the_same(
    pi: BoardEntry, own: Path
) -> None:
    with boards.open_transport(pi) as wire:
        wire.run(["sh", "-c", "echo kept > ~/f; echo lost > /etc/f"], timeout_s=20)
    assert lifecycle.down("pi")
    assert not lifecycle.down("pi")
    with pytest.raises(BoardError, match="this emulated board is down\nRun: edgeopt board up pi"):
        boards.connect("pi")
    again = lifecycle.up("pi", PI, mode="user")
    assert again.host_key == pi.host_key
    with boards.open_transport(again) as wire:
        assert read(wire, "/root/f") == b"kept\n"
        assert read(wire, "/etc/f") == b""


@pytest.mark.board
def test_a_power_cut_in_the_middle_of_a_program(pi: BoardEntry) -> None:
    found = lifecycle.running("pi")
    assert found is not None
    with boards.open_transport(pi) as wire:
        threading.Timer(0.5, os.kill, (found.pid, signal.SIGKILL)).start()
        with pytest.raises(BoardError, match="pi: the connection was lost"):
            wire.run(["sleep", "20"], timeout_s=60)
    for _ in range(100):  # the connection may end a moment before the last process does
        if lifecycle.running("pi") is None:
            break
        time.sleep(0.02)
    assert lifecycle.running("pi") is None


@pytest.mark.board
def test_the_board_sees_nothing_of_this_machines_files(pi: BoardEntry) -> None:
    marker = Path(__file__)
    with boards.open_transport(pi) as wire:
        assert wire.run(["ls", str(marker)], timeout_s=20).exit_status == 2
        listed = wire.run(["ls", "/proc/1/root/"], timeout_s=20).stdout.split()
        assert b"home" in listed
        assert wire.run(["ls", "/home"], timeout_s=20).stdout == b""


@pytest.mark.board
def test_the_shared_userland_is_never_written_to(pi: BoardEntry) -> None:
    from edgeopt.boards.emulated import rootfs

    root = rootfs.userland("bookworm")
    with boards.open_transport(pi) as wire:
        wire.run(["sh", "-c", "echo x > /etc/written; rm /etc/debian_version"], timeout_s=20)
    assert not (root / "etc/written").exists()
    assert (root / "etc/debian_version").exists()


def test_a_reused_process_id_is_not_the_board(boards_folder: Path) -> None:
    state = boards_folder / "pi"
    state.mkdir(parents=True)
    record = {"pid": os.getpid(), "start_ticks": 1, "port": 22, "mode": "user"}
    (state / "running.json").write_text(json.dumps(record))
    assert lifecycle.running("pi") is None
    assert not lifecycle.down("pi")  # and this process is still here to say so


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_a_damaged_record_means_down(boards_folder: Path, text: str) -> None:
    (boards_folder / "pi").mkdir(parents=True)
    (boards_folder / "pi/running.json").write_text(text)
    assert lifecycle.running("pi") is None


@pytest.mark.board
@pytest.mark.parametrize("delay_s", [0.02, 0.08, 0.15, 0.25])
def test_ctrl_c_leaves_nothing_running(own: Path, delay_s: float) -> None:
    program = (
        "import sys\n"
        "from edgeopt.boards.emulated import lifecycle\n"
        "from edgeopt.target import load_target\n"
        "target = load_target('raspberry-pi-4')\n"
        "print('go', flush=True)\n"
        "lifecycle.up('pi', target, mode='user')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=Path(__file__).parents[3],
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay_s)
        process.send_signal(signal.SIGINT)
        status = process.wait(timeout=30)
    if status == 0:  # it was up already
        assert lifecycle.down("pi")
    assert lifecycle.running("pi") is None
    assert _processes_of(own) == []


def _processes_of(state: Path) -> list[str]:
    """Return the command lines of living processes that belong to boards below ``state``."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            mounts = (folder / "mountinfo").read_text()
            parent = next(
                x for x in (folder / "status").read_text().splitlines() if x.startswith("NSpid:")
            )
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended meanwhile
        if str(state) in mounts and command and parent.split()[-1] == "1":
            found.append(command)
    return found


@pytest.mark.board
def test_a_full_system_board_has_its_own_kernel_and_memory(own: Path) -> None:
    if (reason := full_system.missing()) is not None:
        pytest.skip(f"no full-system board here: {reason}")
    small = replace(PI.device, ram_mib=(1024,))
    target: Target = replace(PI, device=small)
    try:
        entry = lifecycle.up("big", target, mode="full-system")
        assert entry.mode == "full-system"
        with boards.connect("big") as board:
            assert board.emulated
            assert "-arm64" in board.facts.kernel
            assert board.facts.cores == ("cortex-a72",) * 4
            assert 900 << 20 < board.facts.ram_bytes < 1024 << 20
            board.transport.run(["sh", "-c", "echo kept > ~/f"], timeout_s=30)
        assert lifecycle.down("big")
        lifecycle.up("big", target, mode="full-system")
        with boards.open_transport(registry.find("big")) as wire:
            assert read(wire, "/root/f") == b"kept\n"
    finally:
        lifecycle.forget("big")


@pytest.mark.board
def test_where_the_kernel_allows_no_namespaces_the_full_system_takes_over(own: Path) -> None:
    if full_system.missing() is not None or shutil.which("unshare") is None:
        pytest.skip("needs qemu-system-aarch64, mke2fs and unshare")
    program = (
        "from edgeopt import progress\n"
        "from edgeopt.boards.emulated import lifecycle\n"
        "from edgeopt.target import load_target\n"
        "with progress.listen(lambda event: print(event.text)):\n"
        "    print(lifecycle.up('fallback', load_target('raspberry-pi-4')).mode)\n"
    )
    # A user namespace has its own bound on the namespaces below it.
    forbid = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    command = ["unshare", "-U", "-r", "sh", "-c", forbid, "sh", sys.executable, "-c", program]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[3]
        )
        assert done.returncode == 0, done.stderr
        assert "Starting a full-system board: the kernel refuses" in done.stdout
        assert done.stdout.splitlines()[-1] == "full-system"
    finally:
        lifecycle.forget("fallback")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for mode, package in (("user", "qemu-user"), ("full-system", "qemu-system-arm")):
        with pytest.raises(MissingDependencyError, match=f"sudo apt install {package}"):
            lifecycle.up("bare", PI, mode=mode)
    if os.geteuid() == 0:
        return
    (tmp_path / "qemu-aarch64").symlink_to("/bin/true")
    missing = user_mode.missing()
    assert missing is not None
    assert "sudo apt install uidmap" in str(missing)
