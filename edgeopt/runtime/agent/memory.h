/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What memory the process takes, at the end of each of its phases. */
#ifndef EO_MEMORY_H
#define EO_MEMORY_H

#include "job.h"

/* Says what is resident now and the peak since the last call, which begins the next `phase`. A figure
 * that the kernel does not tell is left out. Not for where time is taken: the kernel walks all pages.
 *
 * /proc/self/smaps tells more than smaps_rollup, which came with Linux 4.14: resident, proportional (a
 * page that n processes map is an n-th), anonymous (no file's, or changed), private and changed,
 * swapped. Of what is resident and not anonymous, two kinds are told apart: the artifact's files, or a
 * packed bundle; and memory files (memfd), where XNNPACK keeps the weights that it packed. Source:
 * Linux, Documentation/filesystems/proc.rst. */
void eo_memory_say(struct eo_job *job, const char *phase);

#endif
