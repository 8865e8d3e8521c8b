/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokens.h"

#include "lines.h"
#include "tokenizer/tokenizer.h"

#include <stdlib.h>

/* No text has more tokens than bytes, and no template more than the rest. */
enum { TEXT_BYTES = 65536, TOKENS_MAX = 2 * TEXT_BYTES + 64 };

struct encoder {
    struct eo_job *job;
    struct eo_tokenizer *tokenizer;
    void *scratch;
    size_t scratch_bytes;
    struct eo_token *tokens;
    int64_t *values; /* of one member of an event */
    uint32_t max_tokens;
};

static void say_tokens(const struct encoder *encoder, uint32_t count, uint32_t total)
{
    static const char *const names[] = {"ids", "types", "begins", "ends"};

    eo_events_begin(encoder->job->events, "tokens");
    for (size_t member = 0; member < sizeof names / sizeof *names; member++) {
        for (uint32_t i = 0; i < count; i++) {
            const struct eo_token *token = &encoder->tokens[i];
            const int64_t values[] = {token->id, token->type_id, token->begin, token->end};
            encoder->values[i] = values[member];
        }
        eo_events_integers(encoder->job->events, names[member], encoder->values, count);
    }
    eo_events_integer(encoder->job->events, "total", total);
    eo_events_end(encoder->job->events);
}

static int encode_text(void *context, const struct eo_text *text, struct eo_failure *failure)
{
    const struct encoder *encoder = context;
    const struct eo_encode_options options = {.max_tokens = encoder->max_tokens,
                                              .truncation = EO_LONGEST_FIRST};
    struct eo_token_counts counts;
    int result;

    if (text->bytes > TEXT_BYTES || text->pair_bytes > TEXT_BYTES) {
        return eo_fail(failure, EO_EINPUT, "text", "has more than %d bytes", (int)TEXT_BYTES);
    }
    result = eo_tokenizer_encode(encoder->tokenizer, text, &options, encoder->scratch,
                                 encoder->scratch_bytes, encoder->tokens, &counts, failure);
    if (result == EO_OK) {
        say_tokens(encoder, counts.count, counts.total);
    }
    return result;
}

static int open_encoder(struct encoder *encoder, struct eo_failure *failure)
{
    const struct eo_job *job = encoder->job;
    const char *name = job->bundle->manifest.tokenizer;
    const void *json;
    size_t bytes;
    int result;

    if (name == NULL) {
        return eo_fail(failure, EO_EUNSUPPORTED, job->arguments->bundle, "has no tokenizer");
    }
    result = eo_bundle_file(job->bundle, name, &json, &bytes, failure);
    if (result == EO_OK) {
        result = eo_tokenizer_open(json, bytes, name, &encoder->tokenizer, failure);
    }
    if (result != EO_OK) {
        return result;
    }
    encoder->max_tokens =
        job->arguments->seq_len > 0 ? (uint32_t)job->arguments->seq_len : (uint32_t)TOKENS_MAX;
    encoder->scratch_bytes =
        eo_tokenizer_scratch_bytes(encoder->tokenizer, TEXT_BYTES, encoder->max_tokens);
    encoder->scratch = malloc(encoder->scratch_bytes);
    encoder->tokens = calloc(encoder->max_tokens, sizeof *encoder->tokens);
    encoder->values = calloc(encoder->max_tokens, sizeof *encoder->values);
    return encoder->scratch == NULL || encoder->tokens == NULL || encoder->values == NULL
               ? eo_fail(failure, EO_ENOMEM, "tokens", "no memory")
               : EO_OK;
}

int eo_tokens(struct eo_job *job, struct eo_failure *failure)
{
    struct encoder encoder = {.job = job};
    int result = eo_bundle_open(job->arguments->bundle, &job->bundle, failure);

    if (result == EO_OK) {
        result = open_encoder(&encoder, failure);
    }
    if (result == EO_OK) {
        result = eo_lines_read(job, encode_text, &encoder, failure);
    }
    eo_tokenizer_close(encoder.tokenizer);
    free(encoder.scratch);
    free(encoder.tokens);
    free(encoder.values);
    return result;
}
