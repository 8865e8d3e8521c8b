/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Filling in what went wrong. */
#ifndef EO_FAILURE_H
#define EO_FAILURE_H

#include "edgeopt_rt.h"

/* Fills `failure` (cut if too long; may be NULL) and returns `code`, for a caller to return. */
int eo_fail(struct eo_failure *failure, int code, const char *where, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
