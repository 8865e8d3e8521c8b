/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "bundle/bundle.h"

#include "base/sha256.h"

#include <stdlib.h>
#include <string.h>

enum {
    HASHED_BYTES = 1 << 20, /* at a time, so that a large file is never resident as a whole */
    REPLACED_TRIES = 16,
};

static int open_manifest(struct eo_bundle *bundle, const char *path, struct eo_failure *failure)
{
    int result = eo_storage_open(path, &bundle->storage, failure);

    return result == EO_OK
               ? eo_storage_map(&bundle->storage, EO_MANIFEST_FILE, &bundle->text, failure)
               : result;
}

/* If another took the bundle's place, and this one was removed, before its manifest was read,
 * the other is opened. */
static int open_bundle(struct eo_bundle *bundle, const char *path, struct eo_failure *failure)
{
    int result = open_manifest(bundle, path, failure);

    for (int tries = 1; result == EO_EIO && tries < REPLACED_TRIES &&
                        eo_storage_is_gone(&bundle->storage);
         tries++) {
        eo_storage_close(&bundle->storage);
        result = open_manifest(bundle, path, failure);
    }
    if (result == EO_OK) {
        result = eo_manifest_read(bundle->text.data, bundle->text.bytes, &bundle->arena,
                                  &bundle->manifest, failure);
    }
    if (result == EO_OK) {
        bundle->mapped = calloc(bundle->manifest.file_count + (size_t)1, sizeof *bundle->mapped);
        bundle->packed = calloc(bundle->manifest.file_count + (size_t)1, sizeof *bundle->packed);
        if (bundle->mapped == NULL || bundle->packed == NULL) {
            result = eo_fail(failure, EO_ENOMEM, path, "no memory for its files");
        }
    }
    return result;
}

int eo_bundle_open(const char *path, eo_bundle **out, eo_failure *failure)
{
    struct eo_bundle *bundle = calloc(1, sizeof *bundle);
    int result;

    *out = NULL;
    if (bundle == NULL || pthread_mutex_init(&bundle->lock, NULL) != 0) {
        free(bundle);
        return eo_fail(failure, EO_ENOMEM, path, "no memory for a bundle");
    }
    result = open_bundle(bundle, path, failure);
    if (result != EO_OK) {
        eo_bundle_close(bundle);
        return result;
    }
    *out = bundle;
    return EO_OK;
}

void eo_bundle_close(eo_bundle *bundle)
{
    if (bundle == NULL) {
        return;
    }
    for (uint32_t i = 0; bundle->mapped != NULL && i < bundle->manifest.file_count; i++) {
        eo_storage_unmap(&bundle->storage, &bundle->mapped[i]);
    }
    free(bundle->mapped);
    free(bundle->packed); /* no session is left that had any */
    eo_tokenizer_close(bundle->tokenizer);
    eo_storage_unmap(&bundle->storage, &bundle->text);
    eo_storage_close(&bundle->storage);
    eo_arena_free(&bundle->arena);
    (void)pthread_mutex_destroy(&bundle->lock);
    free(bundle);
}

static int check_file(const struct eo_listed_file *listed, const struct eo_mapped *mapped,
                      struct eo_failure *failure)
{
    struct eo_sha256 sha;
    uint8_t digest[32];

    if (mapped->bytes != listed->bytes) {
        return eo_fail(failure, EO_EBUNDLE, listed->name, "has %zu bytes, expected %llu",
                       mapped->bytes, (unsigned long long)listed->bytes);
    }
    eo_sha256_begin(&sha);
    for (size_t at = 0, bytes; at < mapped->bytes; at += bytes) {
        bytes = mapped->bytes - at < HASHED_BYTES ? mapped->bytes - at : HASHED_BYTES;
        eo_sha256_add(&sha, (const char *)mapped->data + at, bytes);
        eo_storage_forget((const char *)mapped->data + at, bytes);
    }
    eo_sha256_end(&sha, digest);
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    if (memcmp(digest, listed->sha256, sizeof digest) != 0) {
        return eo_fail(failure, EO_EBUNDLE, listed->name, "was changed: its SHA-256 is another");
    }
#endif
    return EO_OK;
}

int eo_bundle_map(struct eo_bundle *bundle, uint32_t index, struct eo_file *file,
                  struct eo_failure *failure)
{
    const struct eo_listed_file *listed = &bundle->manifest.files[index];
    struct eo_mapped *mapped = &bundle->mapped[index];
    int result = EO_OK;

    (void)pthread_mutex_lock(&bundle->lock); /* fails for a broken mutex only */
    if (mapped->data == NULL) {
        result = eo_storage_map(&bundle->storage, listed->name, mapped, failure);
        if (result == EO_OK) {
            result = check_file(listed, mapped, failure);
            if (result != EO_OK) {
                eo_storage_unmap(&bundle->storage, mapped);
            }
        }
    }
    (void)pthread_mutex_unlock(&bundle->lock);
    *file = (struct eo_file){.name = listed->name,
                             .path = mapped->path,
                             .data = mapped->data,
                             .bytes = mapped->bytes};
    return result;
}

int eo_bundle_tokenizer(struct eo_bundle *bundle, const char *name, struct eo_file *file,
                        const struct eo_tokenizer **tokenizer, struct eo_failure *failure)
{
    int64_t index;
    int result;

    if (name == NULL) {
        return eo_fail(failure, EO_EUNSUPPORTED, bundle->manifest.name,
                       "the bundle has no tokenizer");
    }
    index = eo_manifest_find(&bundle->manifest, name);
    if (index < 0) {
        return eo_fail(failure, EO_EBUNDLE, name, "is not among the files");
    }
    result = eo_bundle_map(bundle, (uint32_t)index, file, failure);
    if (result != EO_OK) {
        return result;
    }
    (void)pthread_mutex_lock(&bundle->lock); /* fails for a broken mutex only */
    if (bundle->tokenizer == NULL) {
        result =
            eo_tokenizer_open(file->data, file->bytes, file->name, &bundle->tokenizer, failure);
    }
    *tokenizer = bundle->tokenizer;
    (void)pthread_mutex_unlock(&bundle->lock);
    return result;
}

int eo_bundle_file(eo_bundle *bundle, const char *name, const void **data, size_t *bytes,
                   eo_failure *failure)
{
    int64_t index = eo_manifest_find(&bundle->manifest, name);
    struct eo_file file;
    int result;

    if (index < 0) {
        return eo_fail(failure, EO_EINPUT, name, "is not in this bundle");
    }
    result = eo_bundle_map(bundle, (uint32_t)index, &file, failure);
    *data = result == EO_OK ? file.data : NULL;
    *bytes = result == EO_OK ? file.bytes : 0;
    return result;
}

const char *eo_bundle_name(const eo_bundle *bundle)
{
    return bundle->manifest.name;
}

const char *eo_bundle_task(const eo_bundle *bundle)
{
    return bundle->manifest.task->name;
}

const char *eo_bundle_manifest(const eo_bundle *bundle, size_t *bytes)
{
    *bytes = bundle->text.bytes;
    return bundle->text.data;
}

const char *eo_bundle_digest(const eo_bundle *bundle)
{
    return bundle->manifest.digest;
}

uint32_t eo_bundle_label_count(const eo_bundle *bundle)
{
    return bundle->manifest.label_count;
}

const char *eo_bundle_label(const eo_bundle *bundle, uint32_t label)
{
    return label < bundle->manifest.label_count ? bundle->manifest.labels[label] : NULL;
}

uint32_t eo_bundle_graph_count(const eo_bundle *bundle)
{
    return bundle->manifest.graph_count;
}

const char *eo_bundle_graph(const eo_bundle *bundle, uint32_t index)
{
    return index < bundle->manifest.graph_count ? bundle->manifest.graphs[index].graph : NULL;
}

const char *eo_bundle_artifact_graph(const eo_bundle *bundle, uint32_t artifact)
{
    return artifact < bundle->manifest.artifact_count ? bundle->manifest.artifacts[artifact].graph
                                                      : NULL;
}

uint32_t eo_bundle_artifact_count(const eo_bundle *bundle)
{
    return bundle->manifest.artifact_count;
}

int eo_bundle_artifact(const eo_bundle *bundle, uint32_t index, eo_artifact *artifact)
{
    const struct eo_artifact_entry *entry;

    if (index >= bundle->manifest.artifact_count) {
        return EO_EINPUT;
    }
    entry = &bundle->manifest.artifacts[index];
    *artifact = (eo_artifact){.engine = entry->engine,
                              .engine_version = entry->engine_version,
                              .precision = entry->precision,
                              .bytes = entry->bytes};
    return EO_OK;
}
