/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The CPUs that a thread, and the threads that it makes, may run on. */
#ifndef EO_AFFINITY_H
#define EO_AFFINITY_H

#include "base/failure.h"

#ifdef __linux__
#include <sched.h>
typedef cpu_set_t eo_cpus;
#else
typedef struct eo_cpus { char none; } eo_cpus; /* macOS and iOS choose themselves */
#endif

/* Parses "4-7,9" and gives the calling thread these CPUs; `before` is what it had. */
int eo_affinity_set(const char *cpus, eo_cpus *before, struct eo_failure *failure);
void eo_affinity_restore(const eo_cpus *before);

#endif
