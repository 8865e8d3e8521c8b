# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""TVM: the agent is called before and after each call of its virtual machine.

A compiled library names kernels by what they compute, and keeps no names of the model: none of its
operators can be joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgeopt.errors import InputError
from edgeopt.measure.profilers import Call, Join, Joined, Told, since

HOW = "the virtual machine's calls, timed by the agent"
RESOLUTION_NS = 1
ELSEWHERE = ""

_HOUSEKEEPING = "vm.builtin."


def options(prefix: str, *, first: bool) -> list[str]:
    """Return what has the agent time the virtual machine's calls."""
    del prefix, first
    return ["operators=1"]


def calls(told: Told, runs: int) -> list[Call]:
    """Return the kernels in order, and the machine's own calls together as one."""
    del runs
    found = [replace(one, type=_type(one.name)) for one in since(told)]
    kernels = [one for one in found if one.type != "housekeeping"]
    rest = sum(one.total_ns for one in found if one.type == "housekeeping")
    return [*kernels, Call(name="vm.builtin.*", type="housekeeping", total_ns=rest)]


def _type(name: str) -> str:
    return "housekeeping" if name.startswith(_HOUSEKEEPING) else name.rstrip("0123456789")


def layers(join: Join, calls: Sequence[Call]) -> list[Joined]:
    """Raise InputError: there are no names to join by."""
    raise InputError("TVM's library keeps no names of the model's layers")
