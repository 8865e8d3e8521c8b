#!/usr/bin/env python3
# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Runs a bundle of any text task on the board: texts as arguments, or one a line on stdin.

    classify.py BUNDLE [TEXT...]        a question and its context: one text with a tab between

Beside it lie edgeopt_rt.py and libedgeopt_rt.so. Python 3.6 or later, nothing else.
"""

import sys

import edgeopt_rt


def show(text, result):
    """Print what the model found in one text."""
    print(text)
    if result.vector is not None:
        print(f"  {len(result.vector)} values:", *[round(float(v), 4) for v in result.vector[:8]])
    for item in result.items[:5] if result.items and result.items[0].text is None else result.items:
        part = "" if item.text is None else repr(item.text)
        print("  {:.4f}  {} {}".format(item.score, item.label or "", part).rstrip())
    if result.truncated:
        print(f"  (only the first {result.tokens} tokens were read)")


def main(bundle, *texts):
    """Run it and return the exit status."""
    try:
        with edgeopt_rt.open(bundle) as session:
            for text in texts or (line.rstrip("\n") for line in sys.stdin):
                show(text, session.run(*text.split("\t", 1)))
    except edgeopt_rt.Failure as failure:
        sys.exit(f"classify: {failure}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
