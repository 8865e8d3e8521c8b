# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from edgeopt.boards import cores


def test_every_emulated_core_is_the_one_its_midr_names() -> None:
    for name, core in cores.EMULATED.items():
        assert cores.name_of(core.implementer, core.part) == name


def test_a_midr_is_taken_apart_as_the_kernel_does() -> None:
    a76 = cores.EMULATED["cortex-a76"]  # MIDR 0x414fd0b1
    assert (a76.implementer, a76.variant, a76.part, a76.revision) == (0x41, 4, 0xD0B, 1)


def test_stand_ins_exist_and_are_not_newer_than_what_they_stand_for() -> None:
    assert set(cores.NEAREST.values()) <= set(cores.EMULATED)
    assert not set(cores.NEAREST) & set(cores.EMULATED)
    assert "asimddp" not in cores.EMULATED[cores.NEAREST["cortex-a73"]].isa
