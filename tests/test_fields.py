# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Typed getters: every complaint names the file, the dotted key and what was expected."""

from pathlib import Path

import pytest

from edgeopt import fields
from edgeopt.errors import InputError
from edgeopt.fields import Table


def table(**data: object) -> Table:
    return Table(data, file="x.toml")


def message(call: object) -> str:
    with pytest.raises(InputError) as caught:
        call()  # type: ignore[operator]
    return str(caught.value)


def test_values_come_back_as_their_kind() -> None:
    t = table(whole=3, ratio=2, flag=True, word="a", many=[1, 2])
    assert t.integer("whole", low=3, high=3) == 3
    ratio = t.number("ratio", low=0, high=9)
    assert (ratio, type(ratio)) == (2.0, float)
    assert t.get("flag", bool) is True
    assert t.choice("word", ("a", "b")) == "a"
    assert t.array("many", int) == (1, 2)
    assert t.integer("absent", 7) == 7
    assert t.text("absent", None) is None
    t.close("absent")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda t: t.integer("gone"), "x.toml: gone: is missing, expected an integer"),
        (lambda t: t.integer("word"), "x.toml: word: expected an integer, found 'a' (str)"),
        (lambda t: t.integer("flag"), "x.toml: flag: expected an integer, found True (bool)"),
        (lambda t: t.get("whole", bool), "x.toml: whole: expected true or false, found 3 (int)"),
        (lambda t: t.integer("whole", low=4, high=9), "x.toml: whole: expected 4 to 9, found 3"),
        (lambda t: t.number("nan", low=0, high=9), "x.toml: nan: expected 0 to 9, found nan"),
        (lambda t: t.number("inf", low=0, high=9), "x.toml: inf: expected 0 to 9, found inf"),
        (lambda t: t.array("mixed", int), "x.toml: mixed[1]: expected an integer, found 'b' (str)"),
        (
            lambda t: t.choice("word", ("aa", "b")),
            "x.toml: word: expected one of aa, b, found 'a'; did you mean 'aa'?",
        ),
        (lambda t: t.text("blank"), "x.toml: blank: expected some text, found '  '"),
        (
            lambda t: t.text("word", like=r"\d+"),
            r"x.toml: word: expected a string that matches \d+, found 'a'",
        ),
        (lambda t: t.words("empty"), "x.toml: empty: is empty, expected strings"),
        (lambda t: t.words("twice"), "x.toml: twice[1]: 'a' stands there twice"),
        (lambda t: t.words("twice", ("b",)), "x.toml: twice[0]: expected one of b, found 'a'"),
        (
            lambda t: t.ascending("falling", low=1, high=9),
            "x.toml: falling: expected ascending integers, none twice, found [2, 1]",
        ),
        (
            lambda t: t.ascending("far", low=1, high=9),
            "x.toml: far[1]: expected 1 to 9, found 10",
        ),
        (lambda t: t.table("whole"), "x.toml: whole: expected a table, found 3 (int)"),
        (
            lambda t: t.table("sub").table("deep").integer("n"),
            "x.toml: sub.deep.n: expected an integer, found 1.5 (float)",
        ),
        (
            lambda t: t.tables("list")[1].text("k"),
            "x.toml: list[1].k: is missing, expected a string",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_place(call: object, text: str) -> None:
    t = table(
        whole=3,
        word="a",
        flag=True,
        nan=float("nan"),
        inf=float("inf"),
        mixed=[1, "b"],
        blank="  ",
        empty=[],
        twice=["a", "a"],
        falling=[2, 1],
        far=[1, 10],
        sub={"deep": {"n": 1.5}},
        list=[{"k": "v"}, {}],
    )
    assert message(lambda: call(t)) == text  # type: ignore[operator]


def test_an_unknown_key_is_an_error_with_the_nearest_known_one() -> None:
    t = table(opsett=17)
    t.integer("opset", 17)
    assert message(t.close) == "x.toml: opsett: unknown key; did you mean 'opset'? (known: opset)"
    t = Table({"n": 1}, file="x.toml", key="a.b")
    assert message(t.close) == "x.toml: a.b.n: unknown key (no key is known here)"


def test_a_file_that_cannot_be_read_or_parsed(tmp_path: Path) -> None:
    assert message(lambda: fields.read_toml(tmp_path / "no.toml")) == (
        f"{tmp_path}/no.toml: cannot be read (No such file or directory)"
    )
    assert "cannot be read (Is a directory)" in message(lambda: fields.read_toml(tmp_path))
    (tmp_path / "bad.toml").write_bytes(b"\xff = 1")
    assert "bad.toml: is not TOML: 'utf-8' codec" in message(
        lambda: fields.read_toml(tmp_path / "bad.toml")
    )
    (tmp_path / "twice.toml").write_text("a = 1\na = 2\n")
    assert "is not TOML: Cannot overwrite a value" in message(
        lambda: fields.read_toml(tmp_path / "twice.toml")
    )


def test_a_name_and_a_path_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("alpha", "beta"):
        (tmp_path / f"{name}.toml").touch()
    monkeypatch.setenv("HOME", "/home/somebody")
    assert fields.shipped_names(tmp_path) == ("alpha", "beta")
    assert fields.locate("alpha", tmp_path, "thing") == tmp_path / "alpha.toml"
    assert fields.locate("alpha.toml", tmp_path, "thing") == Path("alpha.toml")
    assert fields.locate("x/alpha", tmp_path, "thing", beside=Path("/b")) == Path("/b/x/alpha")
    assert fields.locate("/x/a.toml", tmp_path, "thing", beside=Path("/b")) == Path("/x/a.toml")
    assert fields.locate(Path("alpha"), tmp_path, "thing") == Path("alpha")
    assert fields.locate("~/a.toml", tmp_path, "thing") == Path("/home/somebody/a.toml")
    assert message(lambda: fields.locate("alfa", tmp_path, "thing")) == (
        "unknown thing 'alfa'; did you mean 'alpha'? (known: alpha, beta)\n"
        "For a thing of your own give the path to its file, ending in .toml."
    )


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000, "a = "])
def test_a_hostile_file_is_only_a_wrong_one(tmp_path: Path, text: str) -> None:
    (tmp_path / "bad.toml").write_text(text)
    assert "bad.toml: is not TOML: " in message(lambda: fields.read_toml(tmp_path / "bad.toml"))
