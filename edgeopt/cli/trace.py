# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""``edgeopt trace``."""

from __future__ import annotations

from pathlib import Path

import click

from edgeopt.cli.output import emit, json_option
from edgeopt.errors import InputError


@click.command()
@click.argument("source", metavar="MEASUREMENT")
@click.option("--output", "-o", required=True, metavar="FILE", help="The trace, as JSON.")
@json_option
def trace(source: str, output: str, as_json: bool) -> None:
    """Write the operators of MEASUREMENT as a trace that ui.perfetto.dev opens.

    MEASUREMENT is what `edgeopt profile --operators` wrote. Each artifact is a track, on which
    layers enclose their operators: one inference, composed of the operators' times.
    """
    from edgeopt.measure import measurement
    from edgeopt.report.operator_trace import trace_document

    if Path(output).exists():
        raise InputError("exists", where=output, hint="Give another name with --output.")
    document = trace_document(measurement.read(Path(source)), source)
    measurement.write_document(document, Path(output), indent=None)
    told = {"trace": output, "events": len(document["traceEvents"])}
    emit(told, as_json, lambda console: console.print(f"{output}: open it in ui.perfetto.dev"))
