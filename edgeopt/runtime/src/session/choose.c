/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "session/choose.h"

#include "base/affinity.h"
#include "base/arch.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { MAX_OPTIONS = 64 };

/* The smaller the weights, the faster, but for int4, whose products are mostly in floating point;
 * which engine is fastest only a measurement on the device tells, and until then the target's order
 * stands. */
static const char *const by_preference[] = {"int8", "int4", "fp16", "fp32"};

static int rank(const char *precision)
{
    const int known = (int)(sizeof by_preference / sizeof by_preference[0]);

    for (int i = 0; i < known; i++) {
        if (strcmp(precision, by_preference[i]) == 0) {
            return i;
        }
    }
    return known;
}

/* Whether a bundle, which may be a stranger's, may set the engine's option `key`: what changes how it
 * computes, not what has paths in it or lets it write files, as CACHE_DIR of OpenVINO does. */
static bool is_for_bundles(const char *engine, const char *key)
{
    static const struct {
        const char *engine, *start;
    } known[] = {
        {"onnx", "graph_optimization"},
        {"onnx", "optimization."},
        {"onnx", "mlas."},
        {"onnx", "session.x64quantprecision"},
        {"openvino", "INFERENCE_PRECISION_HINT"},
        {"openvino", "EXECUTION_MODE_HINT"},
        {"openvino", "DYNAMIC_QUANTIZATION_GROUP_SIZE"},
        {"openvino", "KV_CACHE_PRECISION"},
        {"tvm", ""},
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (strcmp(engine, known[i].engine) == 0 &&
            strncmp(key, known[i].start, strlen(known[i].start)) == 0) {
            return true;
        }
    }
    return false;
}

/* The artifact's options, with the caller's in their place or after them. */
static int merge_options(const struct eo_artifact_entry *entry,
                         const struct eo_session_options *options, struct eo_option *merged,
                         uint32_t *count, struct eo_failure *failure)
{
    if ((uint64_t)entry->option_count + options->option_count > MAX_OPTIONS) {
        return eo_fail(failure, EO_EINPUT, "options", "more than %d of them", MAX_OPTIONS);
    }
    *count = entry->option_count;
    for (uint32_t i = 0; i < entry->option_count; i++) {
        if (!is_for_bundles(entry->engine, entry->options[i].key)) {
            return eo_fail(failure, EO_EBUNDLE, entry->options[i].key,
                           "is no option of %s that a bundle may set", entry->engine);
        }
        merged[i] = entry->options[i];
    }
    for (uint32_t i = 0; i < options->option_count; i++) {
        uint32_t at = 0;
        while (at < *count && strcmp(merged[at].key, options->options[i].key) != 0) {
            at++;
        }
        merged[at] = options->options[i];
        *count += at == *count;
    }
    return EO_OK;
}

static int map_files(struct eo_session *session, const struct eo_artifact_entry *entry,
                     struct eo_file **files, struct eo_failure *failure)
{
    int result = EO_OK;

    *files = eo_arena_take(&session->arena, entry->file_count, sizeof **files);
    if (*files == NULL) {
        return eo_fail(failure, EO_ENOMEM, entry->engine, "no memory for its files");
    }
    for (uint32_t i = 0; result == EO_OK && i < entry->file_count; i++) {
        result = eo_bundle_map(session->bundle, entry->files[i], &(*files)[i], failure);
    }
    return result;
}

static int keep_library(struct eo_session *session, const char *path, struct eo_failure *failure)
{
    size_t bytes = strlen(path) + 1;
    char *kept = eo_arena_take(&session->arena, bytes, 1);

    if (kept == NULL) {
        return eo_fail(failure, EO_ENOMEM, path, "no memory for its path");
    }
    memcpy(kept, path, bytes);
    session->library = kept;
    return EO_OK;
}

/* Not with options of the caller's own: they may change what an engine makes of its weights. */
static void take_packed(struct eo_session *session, const struct eo_engine *engine,
                        const struct eo_artifact_entry *entry, struct eo_open *how,
                        char path[EO_PACKED_PATH_BYTES])
{
    if (engine->is_packed != NULL && how->option_count == 0) {
        session->packed_file = entry->files[0];
        session->packed =
            eo_packed_take(session->bundle, session->packed_file, session->library, path);
        how->packed = session->packed == EO_PACKED_NONE ? NULL : path;
    }
}

static void give_packed(struct eo_session *session)
{
    eo_packed_give(session->bundle, session->packed_file, session->packed);
    session->packed = EO_PACKED_NONE;
}

static int open_entry(struct eo_session *session, const struct eo_artifact_entry *entry,
                      const struct eo_session_options *options, struct eo_failure *failure)
{
    const struct eo_engine *engine = eo_engine_named(entry->engine);
    struct eo_option merged[MAX_OPTIONS];
    struct eo_open how = {.options = merged, .file_count = entry->file_count};
    struct eo_file *files = NULL;
    char path[EO_PATH_BYTES], packed[EO_PACKED_PATH_BYTES];

    if (engine == NULL) {
        return eo_fail(failure, EO_EENGINE, entry->engine, "this build has no such engine");
    }
    if (eo_discover(engine, options->libraries, session->bundle->storage.path, path, failure) !=
            EO_OK ||
        engine->version(path, session->version, sizeof session->version, failure) != 0 ||
        merge_options(entry, options, merged, &how.option_count, failure) != EO_OK ||
        map_files(session, entry, &files, failure) != EO_OK ||
        keep_library(session, path, failure) != EO_OK) {
        return failure->code;
    }
    how.library = session->library;
    how.files = files;
    how.threads = options->threads != 0 ? options->threads : session->manifest->threads;
    take_packed(session, engine, entry, &how, packed);
    if (engine->open(&how, &session->model, failure) != 0) {
        give_packed(session);
        return failure->code;
    }
    if (session->packed != EO_PACKED_NONE && !engine->is_packed(session->model)) {
        give_packed(session);
    }
    for (uint32_t i = 0; i < entry->file_count; i++) {
        if (eo_storage_stays(&session->bundle->mapped[entry->files[i]], failure) != EO_OK) {
            engine->close(session->model);
            session->model = NULL;
            give_packed(session);
            return failure->code;
        }
    }
    session->entry = entry;
    session->engine = engine;
    return EO_OK;
}

/* Adds what came of one artifact to the message that lists all. */
static void add_reason(struct eo_failure *all, const struct eo_artifact_entry *entry,
                       const struct eo_failure *one)
{
    size_t used = strlen(all->message);
    const char *where = strcmp(one->where, entry->engine) == 0 ? "" : one->where;

    (void)snprintf(all->message + used, sizeof all->message - used, "%s%.20s %.20s: %.80s%s%.300s",
                   used == 0 ? "" : "; ", entry->engine, entry->precision, where,
                   where[0] == '\0' ? "" : ": ", one->message);
}

int eo_choose(struct eo_session *session, const struct eo_session_options *options,
              struct eo_failure *failure)
{
    const struct eo_manifest *manifest = session->manifest;
    struct eo_failure all = {.code = EO_EENGINE}, one;
    uint32_t tried = 0;
    const int ranks = (int)(sizeof by_preference / sizeof by_preference[0]) + 1;

    for (int wanted = 0; wanted < ranks; wanted++) {
        for (uint32_t i = 0; i < manifest->artifact_count; i++) {
            const struct eo_artifact_entry *entry = &manifest->artifacts[i];
            int result;
            if (strcmp(entry->graph, manifest->graph) != 0 || rank(entry->precision) != wanted ||
                (options->engine != NULL && strcmp(options->engine, entry->engine) != 0) ||
                (options->precision != NULL && strcmp(options->precision, entry->precision) != 0)) {
                continue;
            }
            result = open_entry(session, entry, options, &one);
            if (result == EO_OK) {
                return EO_OK;
            }
            if (tried++ == 0) {
                *failure = one;
            }
            if (result != EO_EENGINE && result != EO_EUNSUPPORTED) {
                *failure = one;
                return result; /* damaged, or out of memory: another artifact would hide it */
            }
            add_reason(&all, entry, &one);
        }
    }
    if (tried == 0) {
        return eo_fail(failure, EO_EINPUT, manifest->name, "the bundle has no %s%s%s artifact",
                       options->engine == NULL ? "" : options->engine,
                       options->engine != NULL && options->precision != NULL ? " " : "",
                       options->precision == NULL ? "" : options->precision);
    }
    return tried == 1 ? failure->code
                      : eo_fail(failure, EO_EENGINE, manifest->name,
                                "none of its artifacts opens here: %s", all.message);
}

const char *eo_target_cpus(const struct eo_manifest *manifest)
{
    eo_cpus before;

    if (manifest->cpus == NULL || strcmp(manifest->arch, EO_ARCH) != 0 ||
        eo_affinity_set(manifest->cpus, &before, NULL) != EO_OK) {
        return NULL;
    }
    eo_affinity_restore(&before);
    return manifest->cpus;
}
