/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* What a generator has of prompt and answer, in memory of the caller's and back. */
#include "base/sha256.h"
#include "generate/cache.h"
#include "generate/evaluate.h"

#include <string.h>

/* The version is in it: what follows has no other mark of how it is laid out. */
static const char magic[8] = {'E', 'O', 'S', 'T', 'A', 'T', 'E', '1'};

struct head {
    char magic[sizeof magic];
    uint8_t digest[EO_SHA256_DIGEST]; /* of all behind it */
};

struct saved {
    uint8_t of[EO_SHA256_DIGEST]; /* the bundle, and the artifact that ran */
    uint32_t count, source_count, cached, reused, answered;
    int32_t end;
    uint32_t bytes; /* of text that is not given out */
    uint32_t stop_count;
    uint64_t random;
    struct eo_sampling how; /* `stops` is NULL */
    struct eo_stream stream;
};
/* Behind it: tokens, text, stops, logits, and what the cache has of each token. */

enum { HEAD_BYTES = sizeof(struct head), BEFORE_BYTES = HEAD_BYTES + sizeof(struct saved) };

static void digest_of(const struct eo_generator *generator, uint8_t digest[EO_SHA256_DIGEST])
{
    const struct eo_session *session = &generator->session;
    struct eo_sha256 sha;

    eo_sha256_begin(&sha);
    eo_sha256_add(&sha, session->manifest->digest, strlen(session->manifest->digest));
    eo_sha256_add(&sha, session->entry->engine, strlen(session->entry->engine) + 1);
    eo_sha256_add(&sha, session->entry->precision, strlen(session->entry->precision));
    eo_sha256_end(&sha, digest);
}

static void hash(const char *state, size_t bytes, uint8_t digest[EO_SHA256_DIGEST])
{
    struct eo_sha256 sha;

    eo_sha256_begin(&sha);
    eo_sha256_add(&sha, state + HEAD_BYTES, bytes - HEAD_BYTES);
    eo_sha256_end(&sha, digest);
}

static uint64_t bytes_of(const struct eo_generator *generator, const struct saved *saved)
{
    const struct eo_generation *generation = &generator->generation;

    return BEFORE_BYTES + (uint64_t)saved->count * sizeof *generator->tokens + saved->bytes +
           (uint64_t)saved->stop_count * EO_STOP_BYTES +
           (uint64_t)generator->vocabulary * sizeof *generator->logits +
           saved->cached * eo_cache_row_bytes(generation, false) +
           saved->source_count * eo_cache_row_bytes(generation, true);
}

static void save_head(const struct eo_generator *generator, struct saved *saved)
{
    memset(saved, 0, sizeof *saved); /* what lies between its members, too */
    digest_of(generator, saved->of);
    saved->count = generator->count;
    saved->source_count = generator->source_count;
    saved->cached = generator->cached;
    saved->reused = generator->reused;
    saved->answered = generator->answered;
    saved->end = generator->end;
    saved->bytes = (uint32_t)(generator->bytes - generator->given_out);
    saved->stop_count = generator->stop_count;
    saved->random = generator->sampler.state;
    saved->how = generator->sampler.how;
    saved->stream = generator->stream;
}

size_t eo_generator_state_bytes(const eo_generator *generator)
{
    struct saved saved;

    if (!EO_GENERATES || !generator->ready || generator->mel != NULL || generator->holds) {
        return 0;
    }
    save_head(generator, &saved);
    return (size_t)bytes_of(generator, &saved);
}

static char *pass(void *own, size_t bytes, char *at, bool restores)
{
    memcpy(restores ? (char *)own : at, restores ? at : (char *)own, bytes);
    return at + bytes;
}

/* What lies behind `saved`, to the state or from there. */
static void pass_all(struct eo_generator *generator, char *at, bool restores)
{
    const size_t rows[] = {(size_t)eo_cache_row_bytes(&generator->generation, false),
                           (size_t)eo_cache_row_bytes(&generator->generation, true)};

    at = pass(generator->tokens, generator->count * sizeof *generator->tokens, at, restores);
    at = pass(generator->text + generator->given_out, generator->bytes - generator->given_out, at,
              restores);
    at = pass(generator->stops, (size_t)generator->stop_count * EO_STOP_BYTES, at, restores);
    at = pass(generator->logits, generator->vocabulary * sizeof *generator->logits, at, restores);
    if (restores && eo_has_encoder(generator)) {
        eo_set_source(generator);
    }
    for (uint32_t i = 0; i < generator->cached; i++, at += rows[0]) {
        eo_cache_copy(generator, false, i, at, restores);
    }
    for (uint32_t i = 0; i < generator->source_count; i++, at += rows[1]) {
        eo_cache_copy(generator, true, i, at, restores);
    }
}

/* What an encoder made of sound is megabytes, and begins with tokens of its own. */
static int check_kind(const struct eo_generator *generator, struct eo_failure *failure)
{
    if (generator->holds) {
        return eo_fail(failure, EO_EUNSUPPORTED, "state", "%s keeps its cache to itself",
                       generator->session.engine->name);
    }
    return generator->mel == NULL
               ? EO_OK
               : eo_fail(failure, EO_EUNSUPPORTED, "state", "none is kept of sound");
}

int eo_generator_save(const eo_generator *generator, void *state, size_t bytes, eo_failure *failure)
{
    const size_t needed = eo_generator_state_bytes(generator);
    struct head head;
    struct saved saved;

    if (EO_GENERATES && check_kind(generator, failure) != EO_OK) {
        return EO_EUNSUPPORTED;
    }
    if (needed == 0) {
        return eo_fail(failure, EO_EINPUT, "generator", "has no prompt to save");
    }
    if (bytes != needed) {
        return eo_fail(failure, EO_EINPUT, "state", "has room for %zu bytes, expected %zu", bytes,
                       needed);
    }
    save_head(generator, &saved);
    memcpy((char *)state + HEAD_BYTES, &saved, sizeof saved);
    /* Nothing of the generator is written to if it does not restore. */
    pass_all((struct eo_generator *)(uintptr_t)generator, (char *)state + BEFORE_BYTES, false);
    memcpy(head.magic, magic, sizeof magic);
    hash(state, bytes, head.digest);
    memcpy(state, &head, sizeof head);
    return EO_OK;
}

/* Whether `saved`, and the tokens and stops at `at`, are such as a generator saves: a digest is no
 * signature. */
static bool is_sound(const struct eo_generator *generator, const struct saved *saved, const char *at)
{
    const uint32_t begins = generator->generation.start.count;
    const uint32_t own = saved->count - saved->source_count, decoded = begins + own;
    const bool encodes = begins > 0;
    const char *stops = at + saved->count * sizeof(int32_t) + saved->bytes;
    bool right = (saved->source_count > 0) == encodes && saved->answered <= own &&
                 decoded > saved->answered && saved->cached <= decoded &&
                 saved->end >= EO_END_NONE && saved->end <= EO_END_CANCELLED &&
                 saved->stream.held < sizeof saved->stream.bytes &&
                 saved->how.stop_count == saved->stop_count && saved->how.num_beams > 0 &&
                 eo_sampler_check(&saved->how, NULL) == EO_OK;

    for (uint32_t i = 0; right && i < saved->count; i++) {
        int32_t token;
        memcpy(&token, at + i * sizeof token, sizeof token);
        right = token >= 0 && (uint32_t)token < generator->vocabulary;
    }
    for (uint32_t i = 0; right && i < saved->stop_count; i++) {
        size_t length = strnlen(stops + (size_t)i * EO_STOP_BYTES, EO_STOP_BYTES);
        right = length > 0 && length < EO_STOP_BYTES;
    }
    return right;
}

static int check(const struct eo_generator *generator, const char *state, size_t bytes,
                 struct saved *saved, struct eo_failure *failure)
{
    uint8_t digest[EO_SHA256_DIGEST];
    struct head head;
    uint32_t most = generator->context;

    if (bytes < BEFORE_BYTES || memcmp(state, magic, sizeof magic) != 0) {
        return eo_fail(failure, EO_EINPUT, "state", "is none of this version's");
    }
    memcpy(&head, state, sizeof head);
    memcpy(saved, state + HEAD_BYTES, sizeof *saved);
    hash(state, bytes, digest);
    if (memcmp(digest, head.digest, sizeof digest) != 0) {
        return eo_fail(failure, EO_EINPUT, "state",
                       "is cut short or was changed: its SHA-256 is another");
    }
    digest_of(generator, digest);
    if (memcmp(digest, saved->of, sizeof digest) != 0) {
        return eo_fail(failure, EO_EINPUT, "state",
                       "is of another bundle, engine or precision than this generator's");
    }
    if (saved->source_count > saved->count || saved->source_count > most ||
        saved->count - saved->source_count > most - generator->generation.start.count) {
        return eo_fail(failure, EO_EINPUT, "state", "has %u tokens, expected room for them in %u",
                       (unsigned)saved->count, (unsigned)most);
    }
    if (saved->how.num_beams > generator->beams) {
        return eo_fail(failure, EO_EINPUT, "state",
                       "is of %u beams, the generator was opened for up to %u (beams)",
                       (unsigned)saved->how.num_beams, (unsigned)generator->beams);
    }
    if (saved->bytes > EO_STOP_BYTES || saved->stop_count > EO_STOPS_MAX ||
        saved->cached > most || bytes_of(generator, saved) != bytes ||
        !is_sound(generator, saved, state + BEFORE_BYTES)) {
        return eo_fail(failure, EO_EINPUT, "state", "holds what no generator saves");
    }
    return EO_OK;
}

int eo_generator_restore(eo_generator *generator, const void *state, size_t bytes,
                         eo_failure *failure)
{
    struct saved saved;
    int result = EO_GENERATES ? check_kind(generator, failure) : EO_EUNSUPPORTED;

    if (result == EO_OK) {
        result = check(generator, state, bytes, &saved, failure);
    }
    if (result != EO_OK) {
        return result;
    }
    eo_generator_reset(generator);
    generator->count = saved.count;
    generator->source_count = saved.source_count;
    generator->source_read = saved.source_count > 0;
    generator->cached = saved.cached;
    generator->reused = saved.reused;
    generator->answered = saved.answered;
    generator->end = saved.end;
    generator->bytes = saved.bytes;
    generator->stop_count = saved.stop_count;
    generator->stream = saved.stream;
    generator->sampler.state = saved.random;
    generator->sampler.how = saved.how;
    generator->sampler.how.stops = NULL;
    atomic_store(&generator->cancelled, false);
    /* Nothing of the state is written to if it restores. */
    pass_all(generator, (char *)(uintptr_t)state + BEFORE_BYTES, true);
    eo_see(generator);
    generator->ready = true;
    return EO_OK;
}
