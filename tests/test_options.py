# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Options out of annotations: made-up ones, and that each shipped one says what it takes."""

import math
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated, Any, Literal, get_args

import pytest

from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.options import DefaultIf, Kind, Option, changed, options_of, read
from edgeopt.quantize import Quantize
from edgeopt.steps import TECHNIQUES, Step
from edgeopt.values import Like, Range

Level = Literal["low", "high"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    hertz: Annotated[float, Range(0.5, 4.0, "Hz"), "how fast it ticks"] = 1.0
    on: Annotated[bool, "whether it ticks"] = True

    def check(self, table: Table) -> None:
        if "hertz" in table and not self.on:
            raise table.wrong("hertz", "is given, but the clock is off")


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    kind: str = field(default="made up", init=False)
    count: Annotated[int, Range(1, 9), "how many"]
    level: Annotated[Level, "how loud"] = "low"
    bits: Annotated[Literal[4, 8] | None, "of a number"] = None
    name: Annotated[str, Like("[a-z]+"), DefaultIf("level", "high", "loud"), "its name"] = "calm"
    levels: Annotated[tuple[Level, ...], "which are there"] = ("low", "high")
    shares: Annotated[tuple[float, ...], Range(0.0, 1.0), "one a part"] = ()
    parts: Annotated[
        Annotated[int, Range(1, 9)] | Annotated[tuple[int, ...], Range(0, 8)] | None, "which"
    ] = None
    clock: Annotated[Clock, "its clock"] = Clock(hertz=2.0)
    spare: Annotated[Clock | None, "another clock"] = None

    def check(self, table: Table) -> None:
        if "bits" in table and "parts" in table:
            raise table.wrong("bits", "is given beside parts")


def machine(**values: object) -> Machine:
    return read(Machine, Table({"count": 3} | values, file="x.toml", key="m"))


def test_a_made_up_dataclass_is_read() -> None:
    assert machine() == Machine(count=3)
    assert machine(level="high") == Machine(count=3, level="high", name="loud")
    assert machine(level="high", name="own").name == "own"
    found = machine(bits=8, levels=["high"], shares=[1, 0.5], clock={"on": False}, spare={})
    assert found == Machine(
        count=3,
        bits=8,
        levels=("high",),
        shares=(1.0, 0.5),
        clock=Clock(hertz=2.0, on=False),
        spare=Clock(),
    )
    assert type(found.shares[0]) is float
    assert (machine(parts=9).parts, machine(parts=[0, 8]).parts) == (9, (0, 8))
    assert changed(found) == {
        "count": 3,
        "bits": 8,
        "levels": ["high"],
        "shares": [1.0, 0.5],
        "clock.on": False,
        "spare": {},
    }


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"count": 10}, "m.count: expected 1 to 9, found 10"),
        ({"count": "3"}, "m.count: expected an integer, found '3' (str)"),
        ({"level": "hihg"}, "m.level: expected one of low, high, found 'hihg'; did you mean 'high"),
        ({"bits": 6}, "m.bits: expected 4 or 8, found 6"),
        ({"name": "A"}, "m.name: expected a string that matches [a-z]+, found 'A'"),
        ({"levels": ["low", "low"]}, "m.levels[1]: 'low' stands there twice"),
        ({"levels": ["mid"]}, "m.levels[0]: expected one of low, high, found 'mid'"),
        ({"shares": [0.5, 1.5]}, "m.shares[1]: expected 0.0 to 1.0, found 1.5"),
        ({"parts": [1, 1]}, "m.parts: expected ascending integers, none twice, found [1, 1]"),
        ({"parts": 0.5}, "m.parts: expected an integer, found 0.5 (float)"),
        ({"clock": {"hertz": 0.1}}, "m.clock.hertz: expected 0.5 to 4.0, found 0.1"),
        ({"clock": {"herz": 1}}, "m.clock.herz: unknown key; did you mean 'hertz'"),
        ({"clock": 1}, "m.clock: expected a table, found 1 (int)"),
        ({"clock": {"on": False, "hertz": 1}}, "m.clock.hertz: is given, but the clock is off"),
        ({"bits": 4, "parts": 1}, "m.bits: is given beside parts"),
        ({"cuont": 1, "bits": 4, "parts": 1}, "m.cuont: unknown key; did you mean 'count'"),
    ],
)
def test_a_wrong_option_is_refused_by_its_key(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        machine(**values)
    assert str(caught.value).startswith(f"x.toml: {message}")


def test_bounds_are_those_of_the_annotation_and_not_of_one_that_equals_it() -> None:
    """``typing`` keeps equal annotations once: a message would hang on what was imported first."""
    whole, real = Annotated[float, Range(0, 7)], Annotated[float, Range(0.0, 7.0)]
    shown = [
        str(get_args(kind)[1]) for found in (whole, real) for kind in get_args(found | None)[:1]
    ]
    assert shown == ["0 to 7", "0.0 to 7.0"]


def test_an_option_without_a_default_has_to_be_given() -> None:
    with pytest.raises(InputError, match="count: is missing, expected an integer"):
        read(Machine, Table({}, file="x.toml"))


def test_options_are_told_as_plain_values() -> None:
    told = {option.name: option.document() for option in options_of(Machine)}
    assert "kind" not in told
    assert told["count"] == {
        "name": "count",
        "help": "how many",
        "required": True,
        "default": None,
        "default_if": [],
        "takes": [{"type": "integer", "low": 1, "high": 9}],
    }
    assert told["name"]["default_if"] == [{"option": "level", "value": "high", "default": "loud"}]
    assert told["levels"]["takes"] == [
        {"type": "array", "items": "text", "choices": ["low", "high"]}
    ]
    assert [option["default"] for option in told["clock"]["options"]] == [2.0, True]
    assert [option["default"] for option in told["spare"]["options"]] == [1.0, True]
    (hertz, _), (parts,) = options_of(Clock), [o for o in options_of(Machine) if o.name == "parts"]
    assert str(hertz.kinds[0]) == "0.5 to 4.0 Hz"
    assert [str(kind) for kind in parts.kinds] == ["1 to 9", "array of 0 to 8"]


def every_option(kind: Any, name: str, default: Any = None) -> Iterator[tuple[str, Option]]:
    for option in options_of(kind, default):
        yield f"{name}.{option.name}", option
        for below in option.kinds:
            if below.stored is dict:
                yield from every_option(below.type, f"{name}.{option.name}", option.default)


SHIPPED = dict(
    pair
    for name, kind in [*TECHNIQUES.items(), ("quantize", Quantize)]
    for pair in every_option(kind, name)
)
KINDS = [
    (f"{key}-{i}", option, kind)
    for key, option in SHIPPED.items()
    for i, kind in enumerate(option.kinds)
]
RANGES = [pytest.param(option, kind, id=key) for key, option, kind in KINDS if kind.range]
CHOICES = [pytest.param(option, kind, id=key) for key, option, kind in KINDS if kind.choices]
# Names of a network's modules, whatever they are.
FREE = {"qat.keep", "quantize.keep"}


def read_alone(option: Option, value: object) -> object:
    return option.read(Table({option.name: value}, file="x.toml"), MISSING)


@pytest.mark.parametrize("name", SHIPPED)
def test_each_option_says_what_it_is_and_what_it_takes(name: str) -> None:
    option = SHIPPED[name]
    assert option.help
    assert "\n" not in option.help
    for kind in option.kinds:
        of = kind.item or kind.type
        if of in (int, float):
            assert kind.range or kind.choices
        elif of is str:
            assert kind.choices or kind.like or name in FREE


@pytest.mark.parametrize(("option", "kind"), RANGES)
def test_the_ends_of_a_range_are_read_and_what_is_beyond_is_refused(
    option: Option, kind: Kind
) -> None:
    assert kind.range is not None
    of, low, high = kind.item or kind.type, kind.range.low, kind.range.high
    is_array, place = kind.type is tuple, option.name + ("[0]" if kind.type is tuple else "")
    for end, away in ((low, -math.inf), (high, math.inf)):
        found = read_alone(option, [end] if is_array else end)
        assert found == ((end,) if is_array else end)
        assert type(found[0] if isinstance(found, tuple) else found) is of
        beyond = math.nextafter(end, away) if of is float else int(end + math.copysign(1, away))
        with pytest.raises(InputError) as caught:
            read_alone(option, [beyond] if is_array else beyond)
        expected = f"x.toml: {place}: expected {low} to {high}, found {beyond!r}"
        assert str(caught.value) == expected


@pytest.mark.parametrize(("option", "kind"), CHOICES)
def test_each_choice_is_read_and_no_other(option: Option, kind: Kind) -> None:
    is_array = kind.type is tuple
    for choice in kind.choices:
        value = [choice] if is_array else choice
        assert read_alone(option, value) == (tuple(value) if is_array else value)
    other = "quantum" if isinstance(kind.choices[0], str) else 5
    with pytest.raises(InputError, match=r"expected (one of )?.*, found '?(quantum|5)"):
        read_alone(option, [other] if is_array else other)


@pytest.mark.parametrize("option", SHIPPED.values(), ids=SHIPPED)
def test_defaults_are_within_their_own_bounds(option: Option) -> None:
    for default in (option.default, *(rule.default for rule in option.defaults_if)):
        if default in (MISSING, None, ()) or option.kinds[0].stored is dict:
            continue
        given = list(default) if isinstance(default, tuple) else default
        assert read_alone(option, given) == default


@pytest.mark.parametrize("name", TECHNIQUES)
def test_a_technique_says_what_it_is_for_makes_and_undoes(name: str) -> None:
    kind = TECHNIQUES[name]
    given = {"tokens": {"layers": (0,), "keep": (0.5,)}}.get(name, {})
    step: Step = kind(**given)
    assert step.technique == name
    assert step.aims in ("latency", "size", "accuracy")
    words = {"zeros", "factored layers", "changed table", "quantised weights"}
    assert step.makes | step.undoes <= words
    trains = "training" in {f.name for f in fields(kind)}
    assert (step.training is not None) is trains
    assert trains is (name in {"distil", "gradual", "movement", "lottery", "qat"})
