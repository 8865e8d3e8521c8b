/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "operators.h"

static void say(void *context, const struct eo_operator *operator)
{
    struct eo_events *events = context;

    eo_events_begin(events, "operator");
    eo_events_text(events, "name", operator->name);
    if (operator->type != NULL) {
        eo_events_text(events, "type", operator->type);
        eo_events_text(events, "kernel", operator->kernel);
        eo_events_integer(events, "ns", operator->ns);
    }
    eo_events_end(events);
}

int eo_operators_say(const struct eo_session *session, struct eo_events *events,
                     struct eo_failure *failure)
{
    const struct eo_engine *engine = session->engine;

    if (engine->operators != NULL &&
        engine->operators(session->model, say, events, failure) != 0) {
        return failure->code;
    }
    eo_events_begin(events, "operators");
    eo_events_end(events);
    return EO_OK;
}
