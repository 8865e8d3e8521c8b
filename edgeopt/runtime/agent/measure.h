/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The one timing loop of this program. It knows nothing of what it times. */
#ifndef EO_MEASURE_H
#define EO_MEASURE_H

#include "base/failure.h"

#include <stddef.h>
#include <stdint.h>

#define EO_MEASURE_CHUNK 64 /* samples sent at once, at the latest after a second */

/* Some consecutive samples; `first` counts from 0 within the warm-up or the measured runs. */
struct eo_samples {
    int64_t first;
    size_t count;
    int64_t begin_ns; /* the clock when the first of them began and the last ended */
    int64_t end_ns;
    int64_t wall_ns[EO_MEASURE_CHUNK];
    int64_t cpu_ns[EO_MEASURE_CHUNK]; /* of all threads of the process */
};

struct eo_timed {
    void *context;
    int (*run)(void *context, struct eo_failure *failure);
    /* Takes the samples, outside every timed part; non-zero ends the measurement. */
    int (*samples)(void *context, const struct eo_samples *samples, struct eo_failure *failure);
};

/* Runs `timed->run` at least `runs` times and for `duration_ns`, whichever takes longer, and hands
 * over every raw sample. Allocates nothing. */
int eo_measure(const struct eo_timed *timed, int64_t runs, int64_t duration_ns,
               struct eo_failure *failure);

#endif
