/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: a packed bundle, or (first byte odd) a manifest alone. Built with
 * FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION, hashes are not compared, so that what lies behind them
 * is reached. */
#include "bundle/bundle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use_bundle(const char *path)
{
    eo_session_options options = EO_SESSION_OPTIONS;
    eo_failure failure;
    eo_bundle *bundle;
    eo_session *session;
    eo_artifact artifact;
    struct eo_file file;

    if (eo_bundle_open(path, &bundle, &failure) != EO_OK) {
        return;
    }
    for (uint32_t i = 0; i < eo_bundle_label_count(bundle); i++) {
        (void)strlen(eo_bundle_label(bundle, i));
    }
    for (uint32_t i = 0; eo_bundle_artifact(bundle, i, &artifact) == EO_OK; i++) {
        (void)strlen(artifact.engine);
    }
    for (uint32_t i = 0; i < bundle->manifest.file_count; i++) {
        (void)eo_bundle_map(bundle, i, &file, &failure);
    }
    options.libraries = "/nowhere";
    if (eo_session_open(bundle, &options, &session, &failure) == EO_OK) {
        abort(); /* without an engine? */
    }
    eo_bundle_close(bundle);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int memory;

    if (size == 0) {
        return 0;
    }
    if ((data[0] & 1) != 0) {
        struct eo_arena arena = {NULL};
        struct eo_manifest *manifest = malloc(sizeof *manifest);
        if (manifest != NULL) {
            (void)eo_manifest_read((const char *)data + 1, size - 1, &arena, manifest, NULL);
        }
        eo_arena_free(&arena);
        free(manifest);
        return 0;
    }
    memory = (int)syscall(SYS_memfd_create, "bundle", 1U);
    if (memory >= 0 && write(memory, data + 1, size - 1) == (ssize_t)(size - 1) &&
        snprintf(path, sizeof path, "/proc/self/fd/%d", memory) > 0) {
        use_bundle(path);
    }
    if (memory >= 0) {
        (void)close(memory);
    }
    return 0;
}
