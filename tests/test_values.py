# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

import pytest

from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.values import (
    Ascending,
    Check,
    Like,
    Most,
    Named,
    OneOf,
    Range,
    outside,
    read,
    write,
)


@dataclass(frozen=True)
class Colour(Named):
    name: str
    known: ClassVar[Mapping[str, Any]] = {}


Colour.known = MappingProxyType({name: Colour(name) for name in ("red", "green")})


@dataclass(frozen=True)
class Disc:
    radius: Annotated[float, Range(0, 9.5, "mm")]
    kind: ClassVar[str] = "disc"


@dataclass(frozen=True)
class Box:
    sides: tuple[Annotated[int, Range(1, 9)] | Annotated[str, OneOf("batch", "seq")], ...]
    kind: ClassVar[str] = "box"


@dataclass(frozen=True)
class Thing:
    name: str
    colour: Colour
    shape: Disc | Box
    lengths: Annotated[tuple[int, ...], Ascending(), Most(3)]
    files: Annotated[Mapping[str, Box], Check(outside), Most(2)]
    score: Annotated[float, Range(0, 1)] | None
    hash: Annotated[str, Like("[0-9a-f]{4}")] = "0000"
    more: Mapping[str, Any] = field(default_factory=dict)
    anything: Any = None

    def check(self, table: Table) -> None:
        if self.name in self.more:
            raise table.wrong("more", "holds its own name")


THING = Thing(
    name="one",
    colour=Colour.known["green"],
    shape=Disc(radius=2.0),
    lengths=(8, 16),
    files={"a/b": Box(sides=(3, "seq"))},
    score=None,
)
PLAIN = {
    "name": "one",
    "colour": "green",
    "shape": {"kind": "disc", "radius": 2.0},
    "lengths": [8, 16],
    "files": {"a/b": {"kind": "box", "sides": [3, "seq"]}},
    "score": None,
}


def read_thing(document: Mapping[str, Any], *, strict: bool = False) -> Thing:
    return read(Thing, Table(document, file="t.json", strict=strict))


def test_what_is_written_is_read_back_and_defaults_are_not_written() -> None:
    assert write(THING) == PLAIN
    assert read_thing(PLAIN) == THING
    other = replace(
        THING,
        shape=Box(sides=("batch", 1)),
        score=0.5,
        hash="00ff",
        more={"x": [1, {"y": None}]},
        anything=("a", 1),
    )
    document = json.loads(json.dumps(write(other)))
    assert set(document) - set(PLAIN) == {"hash", "more", "anything"}
    assert read_thing(document) == replace(other, anything=["a", 1])


def test_whole_numbers_stand_for_fractions_and_not_the_other_way() -> None:
    assert read_thing(PLAIN | {"score": 1}).score == 1.0
    with pytest.raises(InputError, match=r"lengths\[0\]: expected an integer, found 8\.0"):
        read_thing(PLAIN | {"lengths": [8.0]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 1}, "name: expected a string, found 1 (int)"),
        ({"name": "a\0b"}, "name: expected a string without NUL, found 'a\\x00b'"),
        ({"colour": "gren"}, "colour: expected one of red, green, found 'gren'; did you mean"),
        ({"shape": {"radius": 1.0}}, "shape.kind: is missing, expected a string"),
        ({"shape": {"kind": "ball"}}, "shape.kind: expected one of disc, box, found 'ball'"),
        ({"shape": {"kind": "disc", "radius": 10}}, "shape.radius: expected 0 to 9.5, found 10.0"),
        ({"shape": None}, "shape: expected a table, found None (NoneType)"),
        ({"lengths": [8, 8]}, "lengths: expected ascending integers, none twice, found [8, 8]"),
        ({"lengths": [1, 2, 3, 4]}, "lengths: 4 of them, expected up to 3"),
        ({"lengths": [-1]}, "lengths[0]: expected 0 to"),
        ({"files": {"../a": {"kind": "box"}}}, "files: '../a' does not lie inside the bundle"),
        ({"files": {"a": {"sides": [0]}}}, "files.a.sides[0]: expected 1 to 9, found 0"),
        ({"files": {"a": {"sides": ["sq"]}}}, "files.a.sides[0]: expected one of batch, seq"),
        ({"files": {"a": {"sides": [None]}}}, "files.a.sides[0]: expected an integer, found None"),
        ({"files": {name: {"sides": []} for name in "abc"}}, "files: 3 of them, expected up to 2"),
        ({"score": 1.5}, "score: expected 0 to 1, found 1.5"),
        ({"hash": "zz"}, "hash: expected a string that matches [0-9a-f]{4}, found 'zz'"),
        ({"more": {"one": 1}}, "more: holds its own name"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        read_thing(PLAIN | change)
    assert str(caught.value).startswith(f"t.json: {message}")


def test_what_has_no_default_must_be_there_even_if_it_may_be_null() -> None:
    for key in PLAIN:
        with pytest.raises(InputError, match=f"{key}: is missing"):
            read_thing({k: v for k, v in PLAIN.items() if k != key})


def test_keys_that_are_not_known_are_left_alone_or_refused() -> None:
    document = PLAIN | {"shape": {"kind": "disc", "radius": 2.0, "radios": 1}}
    assert read_thing(document) == THING
    with pytest.raises(InputError, match=r"shape\.radios: unknown key; did you mean 'radius'\?"):
        read_thing(document, strict=True)
    assert read_thing(PLAIN, strict=True) == THING


@pytest.mark.parametrize("path", ["../a", "/a", "a//b", "./a", "a/../b", "a\\b", "", "a" * 256])
def test_a_path_that_leads_elsewhere_is_told(path: str) -> None:
    assert outside(path) is not None
    assert outside(f"a/{'b' * 255}") is None
