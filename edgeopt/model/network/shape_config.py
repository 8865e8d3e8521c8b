# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Networks of shapes that transformers' configuration has no word for.

A checkpoint of ours says them in config.json's section ``"edgeopt"``. transformers itself refuses
such weights; ``shaped`` gives it a class that takes them. Each part of the section has a module:
``describe(network) -> dict`` gives its keys, ``read(table, config) -> Build | None`` checks them
and returns what changes a plain network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt.errors import InputError
from edgeopt.fields import Table
from edgeopt.model.network import embeddings, families, hidden, low_rank, tokens, widths

SECTION = "edgeopt"
PARTS = (hidden, widths, low_rank, embeddings, tokens)
"""In the order in which a plain network is changed."""


def describe(network: Any) -> None:
    """Write the shape of ``network`` into its configuration, in place.

    The section is there only if transformers' own keys cannot say it.
    """
    found = {key: value for part in PARTS for key, value in part.describe(network).items()}
    if hasattr(network.config, SECTION):
        delattr(network.config, SECTION)
    if found:
        setattr(network.config, SECTION, found)


def shaped(kind: type, config: Any, section: Mapping[str, Any], where: Path) -> type:
    """Return a subclass of ``kind`` that builds itself as ``section`` says.

    Raises InputError if the section is damaged or does not fit the rest of config.json.
    """
    if config.model_type not in families.FAMILIES:
        raise InputError(
            f"networks of the type {config.model_type!r} have no shapes of their own",
            where=f"{where}: {SECTION}",
            hint="Supported: " + ", ".join(sorted(families.FAMILIES)),
        )
    table = Table({SECTION: section}, file=str(where)).table(SECTION)
    builds = [part.read(table, config) for part in PARTS]
    table.close()

    def init(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, config, *args, **kwargs)  # type: ignore[misc]
        for build in builds:
            if build is not None:
                build(self)

    return type(kind.__name__, (kind,), {"__init__": init, "__module__": kind.__module__})
