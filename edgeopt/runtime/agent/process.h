/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Facts about this process and its machine, read from the kernel. */
#ifndef EO_PROCESS_H
#define EO_PROCESS_H

#include <stddef.h>
#include <stdint.h>

/* Resident memory now (VmRSS) and at its peak (VmHWM), in bytes; -1 if the kernel does not say.
 * Source: proc(5), /proc/pid/status. */
int64_t eo_process_rss_bytes(void);
int64_t eo_process_peak_bytes(void);

/* The CPUs that the process's first thread may run on, such as "0-3", into `text`; empty if the kernel does not
 * say. */
void eo_process_cpus(char *text, size_t size);

/* The CPU's features as /proc/cpuinfo spells them, blank-separated, into `text`. On aarch64 they
 * come from the auxiliary vector, which is this process's own view also under emulation. */
void eo_process_features(char *text, size_t size);

#endif
