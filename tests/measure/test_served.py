# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.measure.served import read_texts


def test_texts_are_lines_or_json(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_text('a tool\n\n  {"text": 1}\n')
    assert read_texts(path) == (("a tool", None), ('  {"text": 1}', None))
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "who?", "pair": "he", "label": 1}\n{"text": "a tool"}\n')
    assert read_texts(path) == (("who?", "he"), ("a tool", None))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"\n \n", "t.txt: holds no text"),
        ("t.txt", b"\xff\n", "t.txt: is not UTF-8"),
        ("t.txt", b"a\n" + b"b" * (1 << 20) + b"b", "t.txt:2: has over 1 MB"),
        ("t.jsonl", b"[1]", "t.jsonl:1: is no object with a text"),
        ("t.jsonl", b'{"text": "a"}\n{"txt": 1}', "t.jsonl:2: text: is missing"),
        ("t.jsonl", b"{", "t.jsonl:1: is not JSON"),
    ],
)
def test_what_is_no_text_is_told_with_its_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_texts(tmp_path / name)
    assert message in str(caught.value)
