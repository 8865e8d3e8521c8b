/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include <time.h>

static int64_t read_ns(clockid_t which)
{
    struct timespec now;

    if (clock_gettime(which, &now) != 0) {
        return -1;
    }
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t eo_clock_wall_ns(void)
{
    return read_ns(CLOCK_MONOTONIC_RAW);
}

int64_t eo_clock_cpu_ns(void)
{
    return read_ns(CLOCK_PROCESS_CPUTIME_ID);
}
