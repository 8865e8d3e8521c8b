/* The CPUs that a thread, and the threads that it makes, may run on. */
#ifndef EO_AFFINITY_H
#define EO_AFFINITY_H

#include "failure.h"

#include <sched.h>

/* Parses "4-7,9" and gives the calling thread these CPUs; `before` is what it had. */
int eo_affinity_set(const char *cpus, cpu_set_t *before, struct eo_failure *failure);
void eo_affinity_restore(const cpu_set_t *before);

#endif
