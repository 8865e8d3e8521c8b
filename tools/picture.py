# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Draw a terminal's recording as SVG: tools/picture.py TITLE COLUMNS < recording > picture.svg.

The recording is what was printed, colours included: with FORCE_COLOR=1 edgeopt prints them to a
file too. No font is fetched when somebody looks at the picture: the viewer's own is used.
"""

from __future__ import annotations

import io
import re
import sys

from rich.console import Console
from rich.text import Text


def main(title: str, columns: int) -> None:
    """Read the recording from standard input and write the picture to standard output."""
    console = Console(record=True, width=columns, file=io.StringIO(), force_terminal=True)
    for line in sys.stdin.read().rstrip("\n").split("\n"):
        text = Text.from_ansi(line)
        if line.startswith("$ "):
            text.stylize("bold")
        console.print(text)
    svg = console.export_svg(title=title).replace("Fira Code,", "")
    sys.stdout.write(re.sub(r"@font-face \{.*?\}\s*|<!--.*?-->", "", svg, flags=re.DOTALL))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
