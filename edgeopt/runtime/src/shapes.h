/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Which shapes a session binds, and their buffers. */
#ifndef EO_SHAPES_H
#define EO_SHAPES_H

#include "session.h"

/* Binds every shape of the session's artifact that the options ask for. */
int eo_shapes_bind(struct eo_session *session, const struct eo_session_options *options,
                   struct eo_failure *failure);
void eo_shapes_free(struct eo_session *session);

/* The smallest bound shape for `batch` and `seq_len` (0: the longest); NULL where none is so large. */
struct eo_shape *eo_shapes_fit(const struct eo_session *session, uint32_t batch, int32_t seq_len);

#endif
