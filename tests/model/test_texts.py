import gzip
from pathlib import Path

import pytest

from edgeopt.errors import InputError
from edgeopt.model.texts import read_labelled, read_texts


def test_the_shipped_texts_are_many_and_of_several_scripts() -> None:
    shipped = read_texts(None, 1000)
    assert len(shipped) == len(set(shipped)) == 256
    assert sum(any(ord(c) > 0x17F for c in text) for text in shipped[:32]) >= 3
    assert read_texts(None, 32) == shipped[:32]


def test_lines_and_jsonl_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\n  two \nthree\n")
    assert read_texts(tmp_path / "a.txt", 2) == ("one", "two")
    (tmp_path / "a.jsonl").write_text('{"text": "eins", "label": 3}\n{"text": "zwei"}\n')
    assert read_texts(tmp_path / "a.jsonl", 9) == ("eins", "zwei")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"label": 1}\n', '{}: line 2: expected an object with a "text"'),
        ('{"text": "a"}\n{"text": \n', "{}: line 2: is not JSON"),
        ("[1]\n", '{}: line 1: expected an object with a "text"'),
        ("\n\n", "{}: has no texts"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_texts(path, 9)
    assert str(caught.value).startswith(message.replace("{}", str(path)))


def test_a_file_that_is_not_there_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_texts(tmp_path / "nosuch.txt", 9)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_texts(tmp_path / "a.txt", 9)


def test_packed_files_and_labels(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(
        gzip.compress(b'{"text": "eins", "label": "a"}\n\n{"text": "zwei", "label": 1}\n')
    )
    assert read_texts(path, 9) == ("eins", "zwei")
    assert read_labelled(path) == (("eins", "zwei"), ("a", 1))
    (tmp_path / "b.txt").write_text("one\ntwo\n")
    assert read_labelled(tmp_path / "b.txt") == (("one", "two"), None)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="is damaged, or not packed by gzip"):
        read_texts(path, 9)
    path.write_bytes(gzip.compress(b'{"text": "eins", "label": 0.5}\n'))
    with pytest.raises(InputError, match='line 1: expected a "label" that is a name or an index'):
        read_labelled(path)
