# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Write the runtime's table of tasks, ``runtime/src/bundle/tasks.h``, from edgeopt's own.

Usage: python -m tools.task_table
"""

from __future__ import annotations

from pathlib import Path

from edgeopt.model.tasks import TASKS, Result, Task

PATH = Path(__file__).parent.parent / "edgeopt/runtime/src/bundle/tasks.h"

_HEADER = """\
/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The tasks of edgeopt/model/tasks.py. Written by: python -m tools.task_table */
#ifndef EO_TASKS_H
#define EO_TASKS_H

#include <stdbool.h>
#include <stdint.h>

enum eo_input_kind {{ {kinds} }};

/* What comes out for one input. */
enum eo_result_kind {{ {results} }};

struct eo_task {{
    const char *name;
    uint8_t input;    /* enum eo_input_kind */
    uint8_t result;   /* enum eo_result_kind */
    uint8_t outputs;  /* how many, each of */
    uint8_t rank;     /* dimensions, the batch among them */
    bool by_token;    /* the second one is the sequence */
    int8_t label_dim; /* which has exactly one value for each label; -1: none */
}};

#define EO_INPUT_KINDS {names}

#define EO_TASKS {continued}
    {{ {continued}
{rows}
    }}

#endif
"""


def header() -> str:
    """Return the file's text."""
    kinds = list(dict.fromkeys(task.input for task in TASKS))
    return _HEADER.format(
        kinds=", ".join(f"EO_{kind.upper()}" for kind in kinds),
        results=", ".join(f"EO_{result.name}" for result in Result),
        names=", ".join(f'"{kind}"' for kind in kinds),
        rows="\n".join(map(_row, TASKS)),
        continued="\\",
    )


def _row(task: Task) -> str:
    cells = (
        f'"{task.name}"',
        f"EO_{task.input.upper()}",
        f"EO_{task.result.name}",
        str(len(task.outputs)),
        str(len(task.dims)),
        str(task.by_token).lower(),
        str(-1 if task.label_dim is None else task.label_dim),
    )
    return f"        {{{', '.join(cells)}}}, \\"


if __name__ == "__main__":
    PATH.write_text(header())
