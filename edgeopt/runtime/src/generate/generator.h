/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* A decoder opened in its engine, with what it keeps of the tokens so far. */
#ifndef EO_GENERATOR_H
#define EO_GENERATOR_H

#include "audio/mel.h"
#include "generate/generation.h"
#include "generate/sampler.h"
#include "session/session.h"
#include "tokenizer/detokenizer.h"

#include <stdatomic.h>

/* onnxruntime appends to a cache of ours, OpenVINO to its own: a build without both generates nothing,
 * and its functions are there but do nothing. */
#if defined(EO_WITHOUT_ONNX) && defined(EO_WITHOUT_OPENVINO)
#define EO_GENERATES 0
#else
#define EO_GENERATES 1
#endif

/* How many tokens one run takes: a longer prompt is read in several. An encoder reads its source in
 * one, of lengths up to the context, and what is longer than the source is masked. */
#define EO_RUN_LENGTHS {1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128}
enum { EO_RUN_LENGTH_MAX = 128, EO_STOPS_MAX = 16, EO_STOP_BYTES = 256 };

struct eo_beams;

struct eo_generator {
    struct eo_session session; /* its artifact, engine and model; no shapes, no texts */
    struct eo_generation generation;
    const struct eo_tokenizer *tokenizer; /* the bundle's */
    struct eo_detokenizer *detokenizer;
    struct eo_sampler sampler;
    struct eo_binding **bindings; /* length_count */
    uint32_t *lengths;
    uint32_t length_count;
    void *cache_memory;
    char *cache; /* cache_memory, aligned: the states one after the other, layer by layer */
    int64_t *ids;
    int32_t *total;
    int64_t *source_ids; /* of an encoder-decoder: context */
    int32_t *source_length;
    struct eo_mel *mel; /* NULL: sources are texts */
    float *features;    /* of sound (bins, frames) */
    struct eo_ids own_start; /* the bundle's; generation.start is the prompt's */
    int32_t *start;          /* of a prompt: context */
    float *logits;
    void *io; /* what these point into */
    uint32_t context;
    uint32_t vocabulary;
    int32_t *tokens; /* of prompt and answer; an encoder-decoder's prompt is its source */
    uint32_t count;
    uint32_t source_count; /* of these, the encoder's; 0 for a decoder alone */
    uint32_t source_at;    /* the binding for that source */
    bool source_read;      /* the cache has what the encoder makes of it */
    uint32_t cached;       /* tokens of the decoder in the cache */
    bool holds;            /* the engine has the cache inside, which only grows: with */
    uint32_t held;         /* so many tokens; UINT32_MAX if a run failed */
    uint32_t reused;
    uint32_t answered; /* tokens of the answer */
    bool ready;        /* there is an answer to go on with */
    int32_t end;       /* enum eo_end */
    uint32_t beams;    /* that it was opened for */
    struct eo_beams *search; /* NULL: of one beam */
    bool found;              /* the search for this answer is over */
    atomic_bool cancelled;
    struct eo_token *encoded; /* context + 1 */
    int32_t *given;           /* tokens of a text, as many */
    void *scratch;
    size_t scratch_bytes;
    struct eo_stream stream;
    char *text;      /* what was decoded and not given out yet, then */
    size_t bytes;    /* so many of it that */
    size_t given_out; /* begin with those that the caller has */
    char stops[EO_STOPS_MAX][EO_STOP_BYTES];
    uint32_t stop_count;
};

/* Takes how tokens are chosen after a prompt, of sound or of a text; EO_EINPUT if the bundle takes
 * the other, and for what is out of range. */
int eo_generator_take_sampling(const struct eo_generator *generator, bool of_sound,
                               const eo_sampling *given, eo_sampling *how,
                               struct eo_failure *failure);

/* Begins an answer to `tokens`, which are checked, and none for sound. */
int eo_generator_start(struct eo_generator *generator, const int32_t *tokens, uint32_t count,
                       const eo_sampling *how, struct eo_failure *failure);

#endif
