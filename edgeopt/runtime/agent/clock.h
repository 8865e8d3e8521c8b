/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The device's own clocks, in nanoseconds. */
#ifndef EO_CLOCK_H
#define EO_CLOCK_H

#include <stdint.h>

/* Monotonic time that NTP does not slew (CLOCK_MONOTONIC_RAW); -1 if the kernel has none. */
int64_t eo_clock_wall_ns(void);
/* CPU time of all threads of this process; -1 if the kernel has none. Only the timing loop reads it,
 * around each run: where instructions are counted, that is what tells inferences apart. */
int64_t eo_clock_cpu_ns(void);

#endif
