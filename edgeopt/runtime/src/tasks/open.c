/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a session: an artifact is chosen, its shapes are bound, and what texts and
 * images need is set aside. */
#include "base/affinity.h"
#include "session/choose.h"
#include "session/session.h"
#include "session/shapes.h"
#include "tasks/reading.h"

#include <stdlib.h>
#include <string.h>

enum { IMAGE_SIDE = 4096 };

/* The engine packs weights in its first run: it is made here at the shortest length, for the sessions
 * that are opened next. */
static int pack(struct eo_session *session, struct eo_failure *failure)
{
    struct eo_shape *selected = session->selected;
    int result;

    if (session->packed != EO_PACKED_FIRST) {
        return EO_OK;
    }
    session->selected = &session->shapes[0];
    result = eo_session_run(session, failure);
    session->selected = selected;
    if (result == EO_OK) {
        eo_packed_written(session->bundle, session->packed_file);
    }
    return result;
}

static int open_session(struct eo_session *session, const struct eo_session_options *options,
                        struct eo_failure *failure)
{
    int result = eo_choose(session, options, failure);

    if (result == EO_OK) {
        result = eo_shapes_bind(session, options, failure);
    }
    if (result == EO_OK) {
        session->max_text_bytes =
            options->max_text_bytes == 0 ? (uint32_t)EO_TEXT_BYTES : options->max_text_bytes;
        session->max_image_side =
            options->max_image_side == 0 ? (uint32_t)IMAGE_SIDE : options->max_image_side;
        result = eo_reading_open(session, failure);
    }
    return result == EO_OK ? pack(session, failure) : result;
}

/* Some engines start their threads in the first run: it is made here, so that they are pinned. */
static int open_pinned(struct eo_session *session, const struct eo_session_options *options,
                       struct eo_failure *failure)
{
    eo_cpus before;
    int result = eo_affinity_set(options->cpus, &before, failure);

    if (result == EO_OK) {
        result = open_session(session, options, failure);
        if (result == EO_OK) {
            result = eo_session_run(session, failure);
        }
        eo_affinity_restore(&before);
    }
    return result;
}

/* The manifest of the graph that is asked for, or of the only one. */
static int find_graph(struct eo_session *session, const char *name, struct eo_failure *failure)
{
    const struct eo_manifest *manifest = &session->bundle->manifest;

    session->manifest = eo_manifest_graph(manifest, name);
    if (session->manifest != NULL) {
        return manifest->task->result != EO_GENERATED
                   ? EO_OK
                   : eo_fail(failure, EO_EINPUT, manifest->name,
                             "generates text: open it with eo_generator_open");
    }
    return name != NULL ? eo_fail(failure, EO_EINPUT, manifest->name, "has no graph %s", name)
                        : eo_fail(failure, EO_EINPUT, manifest->name,
                                  "has %u graphs, such as %s: name the one to open (graph)",
                                  (unsigned)manifest->graph_count, manifest->graphs[0].graph);
}

int eo_session_open(eo_bundle *bundle, const eo_session_options *given, eo_session **out,
                    eo_failure *failure)
{
    struct eo_session *session = calloc(1, sizeof *session);
    struct eo_session_options options;
    struct eo_failure local;
    struct eo_failure *told = failure != NULL ? failure : &local;
    int result;

    *out = NULL;
    if (session == NULL) {
        return eo_fail(told, EO_ENOMEM, "session", "no memory");
    }
    session->bundle = bundle;
    result = eo_session_take_options(given, &options, told);
    if (result == EO_OK) {
        result = find_graph(session, options.graph, told);
    }
    if (result == EO_OK && options.cpus == NULL) {
        options.cpus = eo_target_cpus(&bundle->manifest);
    }
    if (result == EO_OK) {
        result = options.cpus != NULL ? open_pinned(session, &options, told)
                                      : open_session(session, &options, told);
    }
    if (result != EO_OK) {
        eo_session_close(session);
        return result;
    }
    *out = session;
    return EO_OK;
}

void eo_session_close(eo_session *session)
{
    if (session == NULL) {
        return;
    }
    eo_reading_close(session);
    eo_shapes_free(session);
    if (session->model != NULL) {
        session->engine->close(session->model);
    }
    eo_packed_give(session->bundle, session->packed_file, session->packed);
    eo_arena_free(&session->arena);
    free(session);
}
