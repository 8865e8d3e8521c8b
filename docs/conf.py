# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds these pages; run tools/docs."""

from __future__ import annotations

import tomllib
from pathlib import Path

_ROOT = Path(__file__).parent.parent
_names: dict[str, str] = {}
exec((_ROOT / "edgeopt" / "_version.py").read_text(encoding="utf-8"), _names)

project = "edgeopt"
author = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "authors"
][0]["name"]
copyright = author
release = version = _names["__version__"]

extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4  # so that a link may name a heading, and a wrong name is an error
nitpicky = True

html_theme = "furo"
html_title = f"edgeopt {release}"
html_copy_source = False
