/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Values of an engine's options may hold {seq_len}: the token count of what is bound. */
#ifndef EO_OPTION_H
#define EO_OPTION_H

#include "base/failure.h"

/* Writes `value` with every {seq_len} filled in; fails if it does not fit. */
int eo_option_fill(const char *value, int64_t seq_len, char *text, size_t size,
                   struct eo_failure *failure);

#endif
