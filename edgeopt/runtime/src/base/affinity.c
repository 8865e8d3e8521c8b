/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/affinity.h"

#ifdef __linux__

#include <errno.h>
#include <string.h>

/* Reads a number of up to CPU_SETSIZE and moves on; -1 if there is none. */
static int read_cpu(const char **text)
{
    int cpu = -1;

    for (; **text >= '0' && **text <= '9'; (*text)++) {
        cpu = (cpu < 0 ? 0 : cpu) * 10 + (**text - '0');
        if (cpu >= CPU_SETSIZE) {
            return -1;
        }
    }
    return cpu;
}

static int parse(const char *cpus, eo_cpus *set, struct eo_failure *failure)
{
    const char *at = cpus;

    CPU_ZERO(set);
    for (;;) {
        int first = read_cpu(&at), last = first;
        if (*at == '-') {
            at++;
            last = read_cpu(&at);
        }
        if (first < 0 || last < first || (*at != ',' && *at != '\0')) {
            return eo_fail(failure, EO_EINPUT, "cpus", "expected CPUs such as 4-7 or 0,2, found %s",
                           cpus);
        }
        for (int cpu = first; cpu <= last; cpu++) {
            CPU_SET((size_t)cpu, set);
        }
        if (*at++ == '\0') {
            return EO_OK;
        }
    }
}

int eo_affinity_set(const char *cpus, eo_cpus *before, struct eo_failure *failure)
{
    eo_cpus set;

    if (parse(cpus, &set, failure) != EO_OK) {
        return EO_EINPUT;
    }
    if (sched_getaffinity(0, sizeof *before, before) != 0 ||
        sched_setaffinity(0, sizeof set, &set) != 0) {
        return eo_fail(failure, EO_EINPUT, "cpus", "%s cannot be set (%s)", cpus, strerror(errno));
    }
    return EO_OK;
}

void eo_affinity_restore(const eo_cpus *before)
{
    (void)sched_setaffinity(0, sizeof *before, before); /* it was allowed before */
}

#else

int eo_affinity_set(const char *cpus, eo_cpus *before, struct eo_failure *failure)
{
    (void)before;
    return eo_fail(failure, EO_EUNSUPPORTED, "cpus", "%s cannot be set on this system", cpus);
}

void eo_affinity_restore(const eo_cpus *before)
{
    (void)before;
}

#endif
