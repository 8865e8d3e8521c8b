/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generate/generator.h"

#include "base/utf8.h"

#include <math.h>
#include <string.h>

const char *eo_generator_engine(const eo_generator *generator)
{
    return generator->session.engine->name;
}

const char *eo_generator_engine_version(const eo_generator *generator)
{
    return generator->session.version;
}

const char *eo_generator_precision(const eo_generator *generator)
{
    return generator->session.entry->precision;
}

uint32_t eo_generator_context(const eo_generator *generator)
{
    return generator->context;
}

const float *eo_generator_logits(const eo_generator *generator, uint32_t *count)
{
    *count = generator->vocabulary;
    return generator->cached > 0 && generator->ready ? generator->logits : NULL;
}

const int32_t *eo_generator_tokens(const eo_generator *generator, uint32_t *count)
{
    *count = generator->count;
    return generator->tokens;
}

uint32_t eo_generator_reused(const eo_generator *generator)
{
    return generator->reused;
}

void eo_generator_cancel(eo_generator *generator)
{
    atomic_store(&generator->cancelled, true);
}

void eo_generator_reset(eo_generator *generator)
{
    generator->count = generator->cached = generator->reused = generator->answered = 0;
    generator->source_count = 0;
    generator->ready = generator->source_read = false;
    generator->end = EO_END_NONE;
    generator->bytes = generator->given_out = 0;
}

/* ---- running ---- */

static bool has_encoder(const struct eo_generator *generator)
{
    return generator->generation.start.count > 0;
}

/* How many tokens the decoder has: what it begins with, and those that are not the encoder's. */
static uint32_t decoded(const struct eo_generator *generator)
{
    return generator->generation.start.count + generator->count - generator->source_count;
}

static int32_t decoded_token(const struct eo_generator *generator, uint32_t index)
{
    const struct eo_ids *start = &generator->generation.start;

    return index < start->count ? start->ids[index]
                                : generator->tokens[generator->source_count + index - start->count];
}

static int run(struct eo_generator *generator, uint32_t binding, uint32_t total,
               struct eo_failure *failure)
{
    if (atomic_load(&generator->cancelled)) {
        return eo_fail(failure, EO_ECANCELLED, "generator", "was cancelled");
    }
    generator->total[0] = (int32_t)total;
    generator->held = UINT32_MAX;
    if (generator->session.engine->run(generator->bindings[binding], failure) != 0) {
        return EO_EENGINE;
    }
    generator->held = total;
    return EO_OK;
}

/* Empties the engine's own cache, if it has more than is to be kept. */
static int forget(struct eo_generator *generator, struct eo_failure *failure)
{
    const struct eo_session *session = &generator->session;

    if (generator->holds && generator->held > generator->cached) {
        if (session->engine->forget(session->model, failure) != 0) {
            return EO_EENGINE;
        }
        generator->held = 0;
    }
    return EO_OK;
}

/* The encoder reads its source: a run without tokens of an answer. */
static int read_source(struct eo_generator *generator, struct eo_failure *failure)
{
    uint32_t at = 0;
    int result;

    while (generator->lengths[at] < generator->source_count) {
        at++; /* the last is the context, which no source is longer than */
    }
    for (uint32_t i = 0; i < generator->lengths[at]; i++) {
        generator->source_ids[i] = i < generator->source_count ? generator->tokens[i] : 0;
    }
    generator->source_length[0] = (int32_t)generator->source_count;
    generator->source_at = at;
    result = run(generator, at, 0, failure);
    generator->source_read = result == EO_OK;
    return result;
}

/* Runs the tokens that are not in the cache yet, in as few parts as there are lengths for. */
static int evaluate(struct eo_generator *generator, struct eo_failure *failure)
{
    int result = forget(generator, failure);

    if (result == EO_OK && has_encoder(generator) && !generator->source_read) {
        result = read_source(generator, failure);
    }
    while (result == EO_OK && generator->cached < decoded(generator)) {
        uint32_t left = decoded(generator) - generator->cached;
        uint32_t at = generator->source_at, length = 1;
        if (!has_encoder(generator)) {
            at = generator->length_count - 1;
            while (generator->lengths[at] > left) {
                at--;
            }
            length = generator->lengths[at];
        }
        for (uint32_t i = 0; i < length; i++) {
            generator->ids[i] = decoded_token(generator, generator->cached + i);
        }
        result = run(generator, at, generator->cached + length, failure);
        generator->cached += result == EO_OK ? length : 0;
    }
    return result;
}

/* ---- prompts ---- */

static int take_sampling(const eo_sampling *given, eo_sampling *how, struct eo_failure *failure)
{
    int result;

    *how = (eo_sampling)EO_SAMPLING;
    result = eo_take_struct(given, "EO_SAMPLING", "sampling", how, (uint32_t)sizeof *how, failure);
    return result == EO_OK ? eo_sampler_check(how, failure) : result;
}

static bool is_utf8(const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        uint32_t whole = eo_utf8_bytes((const unsigned char *)text + at, bytes - at);
        if (whole == 0) {
            return false;
        }
        at += whole;
    }
    return true;
}

static int check_stops(const eo_sampling *how, struct eo_failure *failure)
{
    if (how->stop_count > EO_STOPS_MAX || (how->stop_count > 0 && how->stops == NULL)) {
        return eo_fail(failure, EO_EINPUT, "stops", "%u of them, expected up to %d",
                       (unsigned)how->stop_count, EO_STOPS_MAX);
    }
    for (uint32_t i = 0; i < how->stop_count; i++) {
        size_t bytes = how->stops[i] == NULL ? 0 : strnlen(how->stops[i], EO_STOP_BYTES);
        if (bytes == 0 || bytes == EO_STOP_BYTES || !is_utf8(how->stops[i], bytes)) {
            return eo_fail(failure, EO_EINPUT, "stops",
                           "text %u is no UTF-8 of 1 to %d bytes", (unsigned)i, EO_STOP_BYTES - 1);
        }
    }
    return EO_OK;
}

static int check_tokens(const struct eo_generator *generator, const int32_t *tokens, uint32_t count,
                        struct eo_failure *failure)
{
    if (count == 0) {
        return eo_fail(failure, EO_EINPUT, "prompt", "has no tokens, expected at least one");
    }
    if (count > generator->context) {
        return eo_fail(failure, EO_EINPUT, "prompt", "has %u tokens, expected up to %u: the context",
                       (unsigned)count, (unsigned)generator->context);
    }
    for (uint32_t i = 0; i < count; i++) {
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= generator->vocabulary) {
            return eo_fail(failure, EO_EINPUT, "prompt", "holds %d at %u, expected 0 to %u",
                           (int)tokens[i], (unsigned)i, (unsigned)generator->vocabulary - 1);
        }
    }
    return EO_OK;
}

/* Keeps of the cache what is the same as before; the decoder's last token is run for its logits. */
static void keep(struct eo_generator *generator, const int32_t *tokens, uint32_t count)
{
    uint32_t begins = generator->generation.start.count, same = 0;

    if (!has_encoder(generator)) {
        while (same < generator->cached && same + 1 < count &&
               generator->tokens[same] == tokens[same]) {
            same++;
        }
        if (generator->holds && same < generator->held) {
            same = 0; /* a part of it cannot be taken back */
        }
        generator->reused = generator->cached = same;
        return;
    }
    generator->source_read = generator->source_read && generator->source_count == count &&
                             memcmp(generator->tokens, tokens, count * sizeof *tokens) == 0;
    generator->source_count = count;
    generator->reused = generator->source_read ? count : 0;
    same = generator->source_read ? begins - 1 : 0;
    generator->cached = generator->cached < same ? generator->cached : same;
}

static void begin(struct eo_generator *generator, const eo_sampling *how, const int32_t *tokens,
                  uint32_t count)
{
    keep(generator, tokens, count);
    memmove(generator->tokens, tokens, count * sizeof *tokens);
    generator->count = count;
    generator->answered = 0;
    generator->end = EO_END_NONE;
    generator->stream = (struct eo_stream){.begun = !has_encoder(generator)};
    generator->bytes = generator->given_out = 0;
    generator->stop_count = how->stop_count;
    for (uint32_t i = 0; i < how->stop_count; i++) {
        memcpy(generator->stops[i], how->stops[i], strlen(how->stops[i]) + 1);
    }
    generator->sampler.how = *how;
    generator->sampler.how.stops = NULL;
    generator->sampler.state = how->seed;
    memset(generator->sampler.seen, 0, (size_t)generator->vocabulary / 8 + 1);
    for (uint32_t i = 0; i < decoded(generator); i++) {
        eo_sampler_saw(&generator->sampler, decoded_token(generator, i));
    }
}

static int start(struct eo_generator *generator, const int32_t *tokens, uint32_t count,
                 const eo_sampling *how, struct eo_failure *failure)
{
    int result = check_tokens(generator, tokens, count, failure);

    if (result != EO_OK) {
        return result;
    }
    atomic_store(&generator->cancelled, false);
    begin(generator, how, tokens, count);
    generator->ready = false;
    result = evaluate(generator, failure);
    if (result != EO_OK) {
        generator->source_count = generator->source_read ? generator->source_count : 0;
        generator->count = has_encoder(generator) ? generator->source_count : generator->cached;
        return result;
    }
    generator->ready = true;
    return EO_OK;
}

int eo_generator_prompt_tokens(eo_generator *generator, const int32_t *tokens, uint32_t count,
                               const eo_sampling *sampling, eo_failure *failure)
{
    eo_sampling how = EO_SAMPLING;
    int result = EO_GENERATES ? take_sampling(sampling, &how, failure) : EO_EUNSUPPORTED;

    if (result == EO_OK) {
        result = check_stops(&how, failure);
    }
    return result == EO_OK ? start(generator, tokens, count, &how, failure) : result;
}

int eo_generator_prompt(eo_generator *generator, const char *text, size_t bytes,
                        const eo_sampling *sampling, eo_failure *failure)
{
    const struct eo_text given = {.text = text, .bytes = bytes};
    const struct eo_encode_options options = {.max_tokens = generator->context + 1,
                                              .truncation = EO_LONGEST_FIRST};
    struct eo_token_counts counts;
    eo_sampling how = EO_SAMPLING;
    int result = EO_GENERATES ? take_sampling(sampling, &how, failure) : EO_EUNSUPPORTED;

    if (result == EO_OK) {
        result = check_stops(&how, failure);
    }
    if (result == EO_OK && bytes == 0 && has_encoder(generator)) { /* it would read but an end */
        result = eo_fail(failure, EO_EINPUT, "prompt", "is empty, expected a text");
    }
    if (result == EO_OK && bytes > generator->session.max_text_bytes) {
        result = eo_fail(failure, EO_EINPUT, "prompt", "has %zu bytes, expected up to %u", bytes,
                         (unsigned)generator->session.max_text_bytes);
    }
    if (result == EO_OK) {
        result = eo_tokenizer_encode(generator->tokenizer, &given, &options, generator->scratch,
                                     generator->scratch_bytes, generator->encoded, &counts,
                                     failure);
    }
    if (result != EO_OK) {
        return result;
    }
    if (counts.total > generator->context) {
        return eo_fail(failure, EO_EINPUT, "prompt", "has %u tokens, expected up to %u: the context",
                       (unsigned)counts.total, (unsigned)generator->context);
    }
    for (uint32_t i = 0; i < counts.count; i++) {
        generator->given[i] = generator->encoded[i].id;
    }
    return start(generator, generator->given, counts.count, &how, failure);
}

/* ---- the answer ---- */

/* Where the first of the stops begins in what is not given out; `bytes` if none does. */
static size_t find_stop(const struct eo_generator *generator)
{
    size_t found = generator->bytes;

    for (uint32_t i = 0; i < generator->stop_count; i++) {
        size_t length = strlen(generator->stops[i]);
        for (size_t at = generator->given_out; at + length <= generator->bytes && at < found; at++) {
            if (memcmp(generator->text + at, generator->stops[i], length) == 0) {
                found = at;
            }
        }
    }
    return found;
}

/* How many bytes at the end of the text may begin a stop. */
static size_t may_stop(const struct eo_generator *generator)
{
    size_t have = generator->bytes - generator->given_out, most = 0;

    for (uint32_t i = 0; i < generator->stop_count; i++) {
        size_t length = strlen(generator->stops[i]);
        size_t start = length - 1 < have ? length - 1 : have;
        while (start > most &&
               memcmp(generator->text + generator->bytes - start, generator->stops[i], start) != 0) {
            start--;
        }
        most = start > most ? start : most;
    }
    return most;
}

/* Gives out all text but the last `kept` bytes of it. */
static void give(struct eo_generator *generator, size_t kept, eo_piece *piece)
{
    piece->text = generator->text + generator->given_out;
    piece->bytes = (uint32_t)(generator->bytes - kept - generator->given_out);
    generator->given_out = generator->bytes - kept;
}

static int finish(struct eo_generator *generator, int32_t end, eo_piece *piece)
{
    if (end != EO_END_STOP) {
        generator->bytes +=
            eo_detokenizer_end(&generator->stream, generator->text + generator->bytes);
        give(generator, 0, piece);
    }
    generator->end = piece->end = end;
    return EO_OK;
}

static bool is_stop(const struct eo_generator *generator, int32_t id)
{
    const struct eo_ids *stops = &generator->generation.stops;

    for (uint32_t i = 0; i < stops->count; i++) {
        if (stops->ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* Moves what is not given out yet to the start of its memory. */
static void tidy(struct eo_generator *generator)
{
    generator->bytes -= generator->given_out;
    memmove(generator->text, generator->text + generator->given_out, generator->bytes);
    generator->given_out = 0;
}

static int take(struct eo_generator *generator, int32_t id, eo_piece *piece)
{
    size_t stop;

    piece->token = id;
    generator->tokens[generator->count++] = id;
    generator->answered++;
    eo_sampler_saw(&generator->sampler, id);
    generator->bytes += eo_detokenizer_next(generator->detokenizer, &generator->stream, id,
                                            generator->text + generator->bytes);
    stop = find_stop(generator);
    if (stop < generator->bytes) {
        generator->bytes = stop;
        give(generator, 0, piece);
        return finish(generator, EO_END_STOP, piece);
    }
    give(generator, may_stop(generator), piece);
    return EO_OK;
}

/* The token of this place if it is one that is not chosen; else the sampler's. */
static int choose(struct eo_generator *generator, int32_t *id, struct eo_failure *failure)
{
    const struct eo_generation *generation = &generator->generation;
    uint32_t room = generator->context - decoded(generator), most = generator->sampler.how.max_tokens;

    if (most > 0 && most - generator->answered < room) {
        room = most - generator->answered;
    }
    if (room == 1 && generation->last.count > 0) {
        *id = generation->last.ids[0];
        return EO_OK;
    }
    if (generator->answered < generation->first.count) {
        *id = generation->first.ids[generator->answered];
        return EO_OK;
    }
    for (uint32_t i = 0; i < generation->never.count; i++) {
        generator->logits[generation->never.ids[i]] = -INFINITY;
    }
    return eo_sampler_next(&generator->sampler, generator->logits, id, failure);
}

int eo_generator_next(eo_generator *generator, eo_piece *piece, eo_failure *failure)
{
    const eo_sampling *how = &generator->sampler.how;
    int32_t id = -1;
    int result;

    *piece = (eo_piece){.token = -1, .end = generator->end, .text = ""};
    if (!EO_GENERATES || !generator->ready) {
        return eo_fail(failure, EO_EINPUT, "generator", "has no prompt to go on with");
    }
    if (generator->end != EO_END_NONE) {
        return EO_OK;
    }
    tidy(generator);
    if (how->max_tokens > 0 && generator->answered >= how->max_tokens) {
        return finish(generator, EO_END_LENGTH, piece);
    }
    if (decoded(generator) >= generator->context) {
        return finish(generator, EO_END_CONTEXT, piece);
    }
    result = evaluate(generator, failure);
    if (result == EO_ECANCELLED || atomic_load(&generator->cancelled)) {
        return finish(generator, EO_END_CANCELLED, piece);
    }
    if (result == EO_OK) {
        result = choose(generator, &id, failure);
    }
    if (result != EO_OK) {
        return result;
    }
    if (is_stop(generator, id)) {
        piece->token = id;
        return finish(generator, EO_END_TOKEN, piece);
    }
    return take(generator, id, piece);
}

int eo_generator_run(eo_generator *generator, eo_piece_sink *sink, void *context,
                     eo_failure *failure)
{
    eo_piece piece;

    do {
        int result = eo_generator_next(generator, &piece, failure);
        if (result != EO_OK) {
            return result;
        }
        if (sink(context, &piece) != 0) {
            return EO_OK;
        }
    } while (piece.end == EO_END_NONE);
    return EO_OK;
}
