/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generate/beams.h"
#include "generate/evaluate.h"

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
    generator->ready = generator->source_read = generator->found = false;
    generator->end = EO_END_NONE;
    generator->bytes = generator->given_out = 0;
}

/* ---- prompts ---- */

/* What the caller leaves to the bundle is as that says, if the generator was opened for as much. */
static int take_search(const struct eo_generator *generator, eo_sampling *how,
                       struct eo_failure *failure)
{
    const struct eo_search *own = &generator->generation.search;
    uint32_t beams = own->num_beams < generator->beams ? own->num_beams : generator->beams;

    if (how->num_beams > generator->beams) {
        return eo_fail(failure, EO_EINPUT, "num_beams",
                       "is %u, the generator was opened for up to %u (beams)",
                       (unsigned)how->num_beams, (unsigned)generator->beams);
    }
    if (how->num_beams > 1 && how->temperature != 0.0F) {
        return eo_fail(failure, EO_EINPUT, "num_beams",
                       "is %u with a temperature, and beams are not chosen at random",
                       (unsigned)how->num_beams);
    }
    if (how->num_beams == 0) {
        how->num_beams = how->temperature != 0.0F ? 1 : beams;
    }
    if (how->early_stopping == EO_EARLY_DEFAULT) {
        how->early_stopping = own->early_stopping;
    }
    if (how->no_repeat_ngram_size == 0) {
        how->no_repeat_ngram_size = own->no_repeat_ngram_size;
    }
    how->min_tokens = how->min_tokens == 0            ? own->min_tokens
                      : how->min_tokens == UINT32_MAX ? 0
                                                      : how->min_tokens;
    how->length_penalty = how->length_penalty == 0.0 ? own->length_penalty : how->length_penalty;
    return EO_OK;
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

int eo_generator_take_sampling(const struct eo_generator *generator, bool of_sound,
                               const eo_sampling *given, eo_sampling *how,
                               struct eo_failure *failure)
{
    int result;

    if ((generator->mel != NULL) != of_sound) {
        return eo_fail(failure, EO_EINPUT, "prompt", "is of %s, and this bundle takes %s",
                       of_sound ? "sound" : "text", of_sound ? "texts" : "sound");
    }
    *how = (eo_sampling)EO_SAMPLING;
    result = eo_take_struct(given, "EO_SAMPLING", "sampling", how, (uint32_t)sizeof *how, failure);
    if (result == EO_OK) {
        result = eo_sampler_check(how, failure);
    }
    if (result == EO_OK) {
        result = take_search(generator, how, failure);
    }
    return result == EO_OK ? check_stops(how, failure) : result;
}

/* Keeps of the cache what is the same as before; the decoder's last token is run for its logits. */
static void keep(struct eo_generator *generator, const int32_t *tokens, uint32_t count)
{
    uint32_t begins = generator->generation.start.count, same = 0;

    if (!eo_has_encoder(generator)) {
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
    generator->found = false;
    generator->end = EO_END_NONE;
    generator->stream = (struct eo_stream){.begun = !eo_has_encoder(generator)};
    generator->bytes = generator->given_out = 0;
    generator->stop_count = how->stop_count;
    for (uint32_t i = 0; i < how->stop_count; i++) {
        memcpy(generator->stops[i], how->stops[i], strlen(how->stops[i]) + 1);
    }
    generator->sampler.how = *how;
    generator->sampler.how.stops = NULL;
    generator->sampler.state = how->seed;
    eo_see(generator);
}

int eo_generator_start(struct eo_generator *generator, const int32_t *tokens, uint32_t count,
                       const eo_sampling *how, struct eo_failure *failure)
{
    int result;

    atomic_store(&generator->cancelled, false);
    begin(generator, how, tokens, count);
    generator->ready = false;
    result = eo_evaluate(generator, failure);
    if (result != EO_OK) {
        generator->source_count = generator->source_read ? generator->source_count : 0;
        generator->count = eo_has_encoder(generator) ? generator->source_count : generator->cached;
        return result;
    }
    generator->ready = true;
    return EO_OK;
}

int eo_generator_prompt_tokens(eo_generator *generator, const int32_t *tokens, uint32_t count,
                               const eo_sampling *sampling, eo_failure *failure)
{
    eo_sampling how = EO_SAMPLING;
    int result = EO_GENERATES
                     ? eo_generator_take_sampling(generator, false, sampling, &how, failure)
                     : EO_EUNSUPPORTED;

    if (result == EO_OK) {
        result = check_tokens(generator, tokens, count, failure);
    }
    return result == EO_OK ? eo_generator_start(generator, tokens, count, &how, failure) : result;
}

int eo_generator_prompt(eo_generator *generator, const char *text, size_t bytes,
                        const eo_sampling *sampling, eo_failure *failure)
{
    const struct eo_text given = {.text = text, .bytes = bytes};
    const struct eo_encode_options options = {.max_tokens = generator->context + 1,
                                              .truncation = EO_LONGEST_FIRST};
    struct eo_token_counts counts;
    eo_sampling how = EO_SAMPLING;
    int result = EO_GENERATES
                     ? eo_generator_take_sampling(generator, false, sampling, &how, failure)
                     : EO_EUNSUPPORTED;

    if (result == EO_OK && bytes == 0 && eo_has_encoder(generator)) { /* it would read but an end */
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
    result = check_tokens(generator, generator->given, counts.count, failure);
    return result == EO_OK
               ? eo_generator_start(generator, generator->given, counts.count, &how, failure)
               : result;
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

/* The token of this place: of the best beam, or one that is not chosen, or the sampler's. */
static int choose(struct eo_generator *generator, int32_t *id, struct eo_failure *failure)
{
    int result;

    if (generator->sampler.how.num_beams > 1) {
        result = eo_beams_search(generator, failure);
        *id = result == EO_OK ? eo_beams_token(generator) : -1;
        return result;
    }
    result = eo_evaluate(generator, failure);
    *id = eo_forced(generator);
    if (result != EO_OK || *id >= 0) {
        return result;
    }
    eo_ban(generator);
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
    if (eo_decoded(generator) >= generator->context) {
        return finish(generator, EO_END_CONTEXT, piece);
    }
    result = choose(generator, &id, failure);
    if (result == EO_ECANCELLED || atomic_load(&generator->cancelled)) {
        return finish(generator, EO_END_CANCELLED, piece);
    }
    if (result != EO_OK) {
        return result;
    }
    if (eo_is_stop(generator, id)) {
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
