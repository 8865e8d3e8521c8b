# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""What the documents say of the code is what the code has; their links lead somewhere."""

import dataclasses
import inspect
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

import edgeopt
from edgeopt.cli import cli
from edgeopt.errors import EdgeoptError
from edgeopt.fields import Table
from edgeopt.quantize import Quantize
from edgeopt.recipe import Limits, recipe_names
from edgeopt.steps import TECHNIQUES, read_steps
from edgeopt.target import target_names
from tests.test_direction import FLOORS
from tools.reference import FOLDER, header, pages

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PAGES = pages()


def commands(group: click.Command, name: str) -> list[tuple[str, click.Command]]:
    found = [(name, group)]
    if isinstance(group, click.Group):
        context = click.Context(group)
        for under in group.list_commands(context):
            command = group.get_command(context, under)
            assert command is not None
            found += commands(command, f"{name} {under}")
    return found


COMMANDS = commands(cli, "edgeopt")[1:]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_comes_from_the_code_is_up_to_date(name: str) -> None:
    path = FOLDER / name
    assert path.exists(), "run tools/docs --pages"
    assert path.read_text(encoding="utf-8") == PAGES[name], "run tools/docs --pages"


def test_no_page_is_left_of_a_command_or_technique_that_is_no_more() -> None:
    written = [*FOLDER.glob("commands/*.md"), *FOLDER.glob("techniques/*.md")]
    assert {str(path.relative_to(FOLDER)) for path in written} <= PAGES.keys()


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_command_has_its_entry_with_every_option(name: str, command: click.Command) -> None:
    page = PAGES[f"commands/{name.split()[1]}.md"]
    assert re.search(rf"^##? {name}$", page, re.MULTILINE)
    section = re.split(r"^##? ", page.split(f"# {name}\n", 1)[1], flags=re.MULTILINE)[0]
    for parameter in command.params:
        for option in parameter.opts if isinstance(parameter, click.Option) else ():
            assert f"`{option}`" in section


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_the_help_of_a_command_begins_at_the_margin(name: str, command: click.Command) -> None:
    """Before Python 3.13 a docstring is as indented as it stands in the source."""
    assert not re.search(r"^[ \t]+\S", inspect.cleandoc(command.help or ""), re.MULTILINE)


def rows(text: str) -> set[str]:
    """Return what stands first in the rows of the tables of ``text``."""
    return set(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE))


@pytest.mark.parametrize("name", TECHNIQUES)
def test_every_technique_has_its_page_with_every_option(name: str) -> None:
    kind: Any = TECHNIQUES[name]
    options = {f.name for f in dataclasses.fields(kind) if f.init}
    assert options <= rows(PAGES[f"techniques/{name}.md"])


@pytest.mark.parametrize("name", TECHNIQUES)
def test_the_example_of_a_technique_can_be_read(name: str) -> None:
    example = PAGES[f"techniques/{name}.md"].rsplit("```toml\n", 1)[1].split("```")[0]
    table = Table(tomllib.loads(example), file="recipe.toml")
    (step,) = read_steps(table.tables("compress"))
    assert step.technique == name


def test_every_option_of_a_recipe_has_its_entry() -> None:
    page = PAGES["recipes.md"]
    named = {f.name for kind in (Quantize, Limits) for f in dataclasses.fields(kind)}
    assert named <= rows(page)
    for name in recipe_names():
        assert f"### {name}\n" in page


def test_what_a_technique_reads_is_what_its_page_says() -> None:
    page = PAGES["techniques/distil.md"]
    assert "| `temperature` | 0.1 to 100.0 | `2` |" in page
    assert '| `start` | sliced, new | `"sliced"` |' in page
    assert "| `layers` | 1 to 1000000 or 0.01 to 0.99 or array of" in page


def test_every_target_has_its_entry() -> None:
    for name in target_names():
        assert f"## {name}\n" in PAGES["targets.md"]


def test_every_function_of_the_runtime_is_in_the_page_on_it() -> None:
    names = header.functions()
    assert len(names) > 30
    for name in names:
        assert f"{name}(" in PAGES["c-api.md"]


def test_every_exit_code_is_told() -> None:
    page = PAGES["exit-codes.md"]
    for kind in EdgeoptError.__subclasses__():
        assert f"| {kind.exit_code} | `{kind.__name__}` |" in page


def test_every_environment_variable_of_ours_is_told() -> None:
    page = (FOLDER / "environment.md").read_text(encoding="utf-8")
    sources = [p for p in (ROOT / "edgeopt").rglob("*") if p.suffix in (".py", ".c")]
    read = re.compile(r"""(?:environ(?:\.get\(|\[)|getenv\()["'](EDGEOPT_\w+)["']""")
    found = {name for path in sources for name in read.findall(path.read_text(encoding="utf-8"))}
    assert {"EDGEOPT_CACHE", "EDGEOPT_CONFIG", "EDGEOPT_RT_LIBRARIES"} <= found
    assert found <= rows(page)


def prose(text: str) -> str:
    """Return ``text`` without blocks of code and what is code in a line."""
    return re.sub(r"`[^`\n]*`", "`", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S))


def anchors(path: Path) -> set[str]:
    """Return the names of the headings of a page, as GitHub and MyST make them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=[str(p.relative_to(ROOT)) for p in DOCUMENTS])
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text(encoding="utf-8"))):
        assert "://" not in link, "nothing outside is linked to"
        name, _, anchor = link.partition("#")
        found = path.parent / name if name else path
        assert found.exists(), link
        if anchor:
            assert anchor in anchors(found), link


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_architecture_names_every_floor_with_its_parts() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (\d+) \| (.+?) \|", page, re.MULTILINE)
    found = {int(number): set(re.findall(r"`(\w+)`", parts)) for number, parts in told}
    assert found == dict(enumerate(FLOORS, start=1))


def test_every_name_that_the_package_exports_has_its_entry() -> None:
    for name in edgeopt.__all__:
        assert f"### {name}\n" in PAGES["python.md"]
