/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* manifest.json, as edgeopt/bundle/manifest.py writes it: the part that running a bundle needs. */
#ifndef EO_MANIFEST_H
#define EO_MANIFEST_H

#include "base/arena.h"
#include "bundle/tasks.h"
#include "engines/engine.h"
#include "image/image.h"

#include <stdbool.h>

#define EO_MANIFEST_FILE "manifest.json"
#define EO_MANIFEST_OLDEST 2 /* schema that is read, up to: */
#define EO_MANIFEST_SCHEMA 3
#define EO_MANIFEST_MAX_BYTES ((size_t)1 << 26) /* and of what is listed in it: */
#define EO_MANIFEST_MAX_FILES 4096
#define EO_MANIFEST_MAX_ARTIFACTS 256

enum eo_activation { EO_NO_ACTIVATION, EO_SOFTMAX, EO_SIGMOID };

enum eo_pooling { EO_NO_POOLING, EO_MEAN, EO_CLS, EO_MAX };

enum { EO_DIM_BATCH = -1, EO_DIM_SEQ = -2 };

/* A tensor of a signature: dims are sizes, EO_DIM_BATCH or EO_DIM_SEQ. */
struct eo_spec {
    const char *name;
    int32_t dtype;
    uint32_t rank;
    int64_t dims[EO_MAX_RANK];
    int64_t limit; /* its values are from 0 to below this; 0: not known */
};

struct eo_signature {
    struct eo_spec inputs[EO_MAX_TENSORS];
    struct eo_spec outputs[EO_MAX_TENSORS];
    uint32_t input_count;
    uint32_t output_count;
};

struct eo_listed_file {
    const char *name;
    uint64_t bytes;
    uint8_t sha256[32];
};

struct eo_artifact_entry {
    const char *graph;
    const char *engine;
    const char *engine_version;
    const char *precision;
    uint64_t bytes;
    const uint32_t *files; /* indices into the manifest's; the one to open first is first */
    uint32_t file_count;
    struct eo_signature signature;
    const int32_t *seq_lens; /* the only token counts that it takes; none: any up to max_seq_len */
    uint32_t seq_len_count;
    const struct eo_option *options;
    uint32_t option_count;
    double bound; /* cosine to the golden outputs that it must have */
};

struct eo_golden_entry {
    const char *graph;
    const char *directory;
    int32_t seq_len;
};

#define EO_MAIN_GRAPH "main" /* of a model that has one graph */

/* All is owned by the arena. `graphs` has the manifest of each graph as if its model had that one;
 * its artifacts and goldens are those of all, each with its `graph`. A model of one graph has
 * itself there. Another one has neither signature nor input of its own. */
struct eo_manifest {
    const char *graph;
    const struct eo_manifest *graphs;
    uint32_t graph_count;
    double scale; /* of a logit: of the product of two embeddings, to which the bias is added */
    double bias;
    const char *name;
    const char *digest; /* 64 hex digits */
    const struct eo_task *task;
    const char *const *labels;
    uint32_t label_count;
    enum eo_activation activation;
    enum eo_pooling pooling;
    bool normalize; /* the pooled vector to length 1 */
    const char *prompt; /* put before every text, of a pair before the first; "": none */
    int32_t max_seq_len;
    int32_t pad_id;
    bool token_types; /* the second text of a pair is told by its token types */
    struct eo_signature signature;
    bool has_image;
    struct eo_image_spec image; /* if has_image */
    uint32_t sound_bins;        /* of the features of sound; 0: it takes none */
    uint32_t sound_frames;      /* of a network's whole input, an even number */
    const char *tokenizer; /* the file tokenizer.json; NULL: none */
    const char *arch;
    int32_t threads;
    const char *cpus; /* that the threads may use; NULL: any */
    const struct eo_artifact_entry *artifacts;
    uint32_t artifact_count;
    const struct eo_golden_entry *goldens;
    uint32_t golden_count;
    const struct eo_listed_file *files; /* by name */
    uint32_t file_count;
};

/* Parses and checks `text`, its digest too. Returns EO_OK, EO_EBUNDLE, EO_ENOMEM or
 * EO_EUNSUPPORTED (of another schema version). */
int eo_manifest_read(const char *text, size_t bytes, struct eo_arena *arena,
                     struct eo_manifest *manifest, struct eo_failure *failure);

/* The manifest of the graph `name`; NULL if there is none. With NULL for a name that of the one
 * graph there is, and NULL if there are more. */
const struct eo_manifest *eo_manifest_graph(const struct eo_manifest *manifest, const char *name);

/* The index of file `name`, -1 if the manifest does not list it. */
int64_t eo_manifest_find(const struct eo_manifest *manifest, const char *name);

#endif
