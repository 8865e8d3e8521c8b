/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Which shapes a session binds, and their buffers. */
#ifndef EO_SHAPES_H
#define EO_SHAPES_H

#include "session/session.h"

/* Binds every shape of the session's artifact that the options ask for. */
int eo_shapes_bind(struct eo_session *session, const struct eo_session_options *options,
                   struct eo_failure *failure);
void eo_shapes_free(struct eo_session *session);

#endif
