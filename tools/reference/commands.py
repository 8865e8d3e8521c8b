# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""A page for each command of ``edgeopt``, from its click command."""

from __future__ import annotations

import inspect

import click

from edgeopt.cli import cli
from tools.reference.markdown import code, literal, table


def pages() -> dict[str, str]:
    """Return the text of each page by its name, such as ``commands/compile.md``."""
    context = click.Context(cli, info_name="edgeopt")
    found = {}
    rows = []
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        found[f"commands/{name}.md"] = _page(name, command, context)
        rows.append((f"[`edgeopt {name}`](commands/{name}.md)", command.get_short_help_str(200)))
    toctree = "\n".join(f"commands/{name}" for name in cli.list_commands(context))
    found["commands.md"] = (
        "# Commands\n\n"
        "Every command takes `--json`; codes and documents are told in [Exit codes and "
        "JSON](exit-codes.md).\n\n"
        f"{table(('command', 'does'), rows)}\n"
        f"```{{toctree}}\n:hidden:\n\n{toctree}\n```\n"
    )
    return found


def _page(name: str, command: click.Command, parent: click.Context) -> str:
    context = click.Context(command, info_name=name, parent=parent)
    parts = [f"# edgeopt {name}", *_body(command, context)]
    if isinstance(command, click.Group):
        for under in command.list_commands(context):
            child = command.get_command(context, under)
            assert child is not None
            parts.append(f"## edgeopt {name} {under}")
            parts += _body(child, click.Context(child, info_name=under, parent=context))
    return "\n\n".join(parts) + "\n"


def _body(command: click.Command, context: click.Context) -> list[str]:
    usage = command.get_usage(context).removeprefix("Usage: ")
    parts = [code(" ".join(usage.split()), "text"), inspect.cleandoc(command.help or "")]
    rows = [_option(o) for o in command.params if isinstance(o, click.Option) and not o.hidden]
    if rows:
        parts.append(table(("option", "value", "means"), rows).rstrip())
    return parts


def _option(option: click.Option) -> tuple[str, str, str]:
    names = ", ".join(literal(name) for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else literal(_value(option))
    notes = [option.help or ""]
    notes += ["Required."] if option.required else []
    notes += ["May be given several times."] if option.multiple else []
    if option.show_default and option.default is not None:
        notes.append(f"Default: {literal(str(option.default))}.")
    return names, value, " ".join(note for note in notes if note)


def _value(option: click.Option) -> str:
    kind = option.type
    if isinstance(kind, click.Choice):
        return "|".join(map(str, kind.choices))
    if isinstance(kind, click.IntRange):
        return f"{kind.min} or more" if kind.max is None else f"{kind.min} to {kind.max}"
    return option.metavar or kind.name.upper()
