/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What an engine's own profiler says of a session's operators. */
#ifndef EO_OPERATORS_H
#define EO_OPERATORS_H

#include "events.h"
#include "session/session.h"

/* Emits an event for each operator, with its time in all calls so far, and one that ends them; one
 * alone for a report that the engine writes. */
int eo_operators_say(const struct eo_session *session, struct eo_events *events,
                     struct eo_failure *failure);

#endif
