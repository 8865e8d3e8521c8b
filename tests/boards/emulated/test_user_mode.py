# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

from edgeopt.boards import facts
from edgeopt.boards.cores import EMULATED
from edgeopt.boards.emulated import user_mode

RECORDED = Path(__file__).parent.parent / "facts"


def test_cpuinfo_is_what_the_real_kernel_prints_for_that_core() -> None:
    """Against the record of a full-system board, whose arm64 kernel asked the core itself."""
    text = (RECORDED / "emulated-full-system-a76.txt").read_text()
    real = text.split("@@edgeopt cpuinfo\n")[1].split("\n@@edgeopt")[0].strip()
    core = EMULATED["cortex-a76"]
    made = user_mode.cpuinfo(core, 4, core.isa).strip()
    assert made.replace("108.00", "125.00") == real  # BogoMIPS: the timer's rate, not the core's


def test_a_32_bit_kernel_prints_it_otherwise() -> None:
    core = EMULATED["cortex-a7"]
    first = user_mode.cpuinfo(core, 4, ("half", "neon")).split("\n\n")[0]
    assert first.splitlines() == [
        "processor\t: 0",
        "model name\t: ARMv7 Processor rev 5 (v7l)",
        "BogoMIPS\t: 108.00",
        "Features\t: half neon",
        "CPU implementer\t: 0x41",
        "CPU architecture: 7",
        "CPU variant\t: 0x0",
        "CPU part\t: 0xc07",
        "CPU revision\t: 5",
    ]
    assert not any("midr" in path for path in user_mode.sysfs(core, 4, 0.9))


def test_what_is_shown_is_what_facts_read() -> None:
    core = EMULATED["cortex-a53"]
    text = (RECORDED / "raspberry-pi-4.txt").read_text()
    before, _, rest = text.partition("@@edgeopt cpuinfo\n")
    after = rest[rest.index("@@edgeopt meminfo") :]
    shown = user_mode.cpuinfo(core, 3, ("fp", "asimd"))
    found = facts.parse(f"{before}@@edgeopt cpuinfo\n{shown}\n{after}")
    assert found.cores == ("cortex-a53",) * 3
    assert found.isa == ("fp", "asimd")


def test_every_core_has_its_midr_and_clock() -> None:
    files = user_mode.sysfs(EMULATED["cortex-a72"], 2, 1.8)
    cpu = "/sys/devices/system/cpu"
    assert files[f"{cpu}/online"] == "0-1\n"
    for n in range(2):
        assert files[f"{cpu}/cpu{n}/regs/identification/midr_el1"] == "0x00000000410fd083\n"
        assert files[f"{cpu}/cpu{n}/cpufreq/cpuinfo_max_freq"] == "1800000\n"
    assert f"{cpu}/cpu2/online" not in files
