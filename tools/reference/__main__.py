# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Write the pages of docs/reference that come from the code: python -m tools.reference."""

from __future__ import annotations

from tools.reference import FOLDER, pages


def main() -> None:
    """Write every page, and remove those of commands and techniques that are no more."""
    found = pages()
    for path in [*FOLDER.glob("commands/*.md"), *FOLDER.glob("techniques/*.md")]:
        if str(path.relative_to(FOLDER)) not in found:
            path.unlink()
    for name, text in found.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
