/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "measure.h"

#include "clock.h"

#include <stdbool.h>

int eo_measure(const struct eo_timed *timed, int64_t runs, int64_t duration_ns,
               struct eo_failure *failure)
{
    struct eo_samples samples = {.first = 0, .count = 0};
    const int64_t begin_ns = eo_clock_wall_ns();
    int64_t sent_ns = begin_ns;
    bool over = runs <= 0 && duration_ns <= 0;

    for (int64_t i = 0; !over; i++) {
        int64_t cpu_begin, wall_begin, wall_end, cpu_end;
        int result;

        /* The wall clock is read innermost, so that it does not hold the CPU clock's system call. */
        cpu_begin = eo_clock_cpu_ns();
        wall_begin = eo_clock_wall_ns();
        result = timed->run(timed->context, failure);
        wall_end = eo_clock_wall_ns();
        cpu_end = eo_clock_cpu_ns();
        if (result != 0) {
            return result;
        }
        if (cpu_begin < 0 || wall_begin < 0 || wall_end < 0 || cpu_end < 0) {
            return eo_fail(failure, EO_EIO, "clock", "the kernel gives no monotonic or CPU clock");
        }
        samples.wall_ns[samples.count] = wall_end - wall_begin;
        samples.cpu_ns[samples.count] = cpu_end - cpu_begin;
        samples.begin_ns = samples.count == 0 ? wall_begin : samples.begin_ns;
        samples.end_ns = wall_end;
        samples.count++;
        over = i + 1 >= runs && wall_end - begin_ns >= duration_ns;
        if (samples.count == EO_MEASURE_CHUNK || over || wall_end - sent_ns >= 1000000000) {
            result = timed->samples(timed->context, &samples, failure);
            if (result != 0) {
                return result;
            }
            samples.first += (int64_t)samples.count;
            samples.count = 0;
            sent_ns = eo_clock_wall_ns();
        }
    }
    return 0;
}
