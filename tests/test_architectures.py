# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import _ctypes
import platform
from pathlib import Path

from edgeopt.architectures import ARCHITECTURES, ELF_MACHINES, MACHINES, elf_machine, of_machine


def test_each_architecture_is_known_by_kernels_and_in_elf_files() -> None:
    assert set(MACHINES.values()) == set(ELF_MACHINES.values()) == set(ARCHITECTURES)


def test_a_32_bit_arm_board_is_armv7() -> None:
    assert [of_machine(name) for name in ("armv7l", "armv8l")] == ["armv7", "armv7"]
    assert of_machine("riscv64") == "riscv64"


def test_a_program_of_this_machine_is_for_it() -> None:
    with Path(_ctypes.__file__).open("rb") as file:  # sys.executable may be a script
        head = file.read(20)
    machine = elf_machine(head)
    assert machine is not None
    assert ELF_MACHINES[machine] == of_machine(platform.machine())


def test_what_is_no_elf_file_has_no_machine() -> None:
    assert elf_machine(b"#!/bin/sh\nexit 0\n") is None
    assert elf_machine(b"\x7fELF\x02\x01\x01") is None
