/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What a session sees of its bundle. */
#ifndef EO_BUNDLE_H
#define EO_BUNDLE_H

#include "bundle/manifest.h"
#include "bundle/storage.h"
#include "tokenizer/tokenizer.h"

#include <pthread.h>

/* See bundle/packed.h. */
struct eo_packed {
    uint32_t users; /* 0: the rest is not set */
    int file;
    char *library;
    bool is_written;
};

struct eo_bundle {
    struct eo_storage storage;
    struct eo_mapped text; /* of the manifest */
    struct eo_arena arena;
    struct eo_manifest manifest;
    pthread_mutex_t lock;     /* of what follows, which is made when it is first wanted */
    struct eo_mapped *mapped; /* one for each of the manifest's files; checked if data is set */
    struct eo_packed *packed; /* one for each of the manifest's files */
    struct eo_tokenizer *tokenizer;
};

/* Maps file `index` of the manifest and checks its hash, once; the answer stands as long as the
 * bundle. Any thread may call it. */
int eo_bundle_map(struct eo_bundle *bundle, uint32_t index, struct eo_file *file,
                  struct eo_failure *failure);

/* The tokenizer whose file the manifest names `name`, opened once for all that ask. NULL:
 * EO_EUNSUPPORTED. Any thread may call it. */
int eo_bundle_tokenizer(struct eo_bundle *bundle, const char *name, struct eo_file *file,
                        const struct eo_tokenizer **tokenizer, struct eo_failure *failure);

#endif
