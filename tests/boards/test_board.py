# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What decides which engine builds run on a board."""

from dataclasses import replace

import pytest

from edgeopt.boards import Board, facts
from edgeopt.boards.local import LocalTransport
from edgeopt.boards.registry import BoardEntry

FACTS = facts.gather(LocalTransport())


@pytest.mark.parametrize(
    ("real", "found", "counts"),
    [
        ("2.27", "2.31", "2.27"),  # an emulated Jetson Nano: the real one is older
        ("2.36", "2.36", "2.36"),
        ("2.36", "2.31", "2.31"),
        (None, "2.31", "2.31"),  # a real board
        ("2.9", "2.17", "2.9"),  # by number, not by letter
    ],
)
def test_an_emulated_board_stands_for_its_device(real: str | None, found: str, counts: str) -> None:
    board = Board(
        entry=BoardEntry(name="b", kind="emulated", libc_version=real),
        transport=LocalTransport(),
        facts=replace(FACTS, libc_version=found),
    )
    assert board.platform == replace(FACTS.platform, libc_version=counts)


def test_a_board_that_says_it_is_emulated_is_so_over_ssh_as_well() -> None:
    entry = BoardEntry(name="b", kind="ssh")
    real = Board(entry=entry, transport=LocalTransport(), facts=FACTS)
    assert not real.emulated
    assert replace(real, facts=replace(FACTS, emulated=True)).emulated
