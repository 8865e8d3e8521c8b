# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""The runtime's table of tasks is edgeopt's."""

from tools import task_table


def test_the_header_is_as_the_table_writes_it() -> None:
    assert task_table.PATH.read_text() == task_table.header()
