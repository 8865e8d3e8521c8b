/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generate/generation.h"

#include "base/json_tree.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_IDS = 256, MAX_SIZE = 1 << 20, NUMBER_BYTES = 8 };

/* Of one token in one state: no sum of these, times a context and its beams, is beyond 64 bits. */
#define MAX_ROW_BYTES (1ULL << 35)

/* Reading goes on after a failure and finds nothing more to do: the first failure stands. */
struct reading {
    const struct eo_json_tree *tree;
    struct eo_arena *arena;
    struct eo_failure *failure;
    int result;
};

static void wrong(struct reading *reading, const char *key, const char *expected)
{
    if (reading->result == EO_OK) {
        reading->result = eo_fail(reading->failure, EO_EBUNDLE, EO_MANIFEST_FILE,
                                  "generation.%s: expected %s", key, expected);
    }
}

static void *take(struct reading *reading, size_t count, size_t bytes)
{
    void *memory = eo_arena_take(reading->arena, count, bytes);

    if (memory == NULL && reading->result == EO_OK) {
        reading->result = eo_fail(reading->failure, EO_ENOMEM, EO_MANIFEST_FILE, "no memory");
    }
    return memory;
}

/* The array `key` of `node`, 0 if it is not there; `*count` of up to `most` items. */
static uint32_t array_of(struct reading *reading, uint32_t node, const char *key, uint32_t most,
                         uint32_t *count)
{
    uint32_t array = eo_json_member(reading->tree, node, key);

    *count = array == 0 ? 0 : eo_json_length(reading->tree, array);
    if (array != 0 && (reading->tree->nodes[array].type != EO_JSON_ARRAY || *count > most)) {
        wrong(reading, key, "an array of not so many");
        *count = 0;
    }
    return array;
}

/* A name with one place for the layer, or of the only one. */
static const char *read_name(struct reading *reading, uint32_t node, const char *key, uint32_t count)
{
    char *name = take(reading, EO_NAME_BYTES, 1);
    const char *place;

    if (name == NULL ||
        eo_json_string(reading->tree, eo_json_member(reading->tree, node, key), name,
                       EO_NAME_BYTES - NUMBER_BYTES) <= 0) {
        wrong(reading, key, "a short name");
        return "";
    }
    place = strstr(name, "{}");
    if ((place == NULL && count > 1) || (place != NULL && strpbrk(place + 2, "{}") != NULL)) {
        wrong(reading, key, "one place for the layer's number");
    }
    return name;
}

static void read_dims(struct reading *reading, uint32_t node, struct eo_state_spec *state)
{
    uint32_t count, array = array_of(reading, node, "dims", EO_MAX_RANK, &count), grows = 0;
    uint64_t row = sizeof(float) * (uint64_t)state->count;

    for (uint32_t i = array + 1; count > 0 && i < reading->tree->nodes[array].next;
         i = reading->tree->nodes[i].next) {
        int64_t *dim = &state->dims[state->rank++];
        if (eo_json_is(reading->tree, i, "past") || eo_json_is(reading->tree, i, "source")) {
            *dim = eo_json_is(reading->tree, i, "past") ? EO_DIM_PAST : EO_DIM_SOURCE;
            state->of_source = *dim == EO_DIM_SOURCE;
            grows++;
        } else if (eo_json_integer(reading->tree, i, 1, MAX_SIZE, dim) &&
                   row <= MAX_ROW_BYTES / (uint64_t)*dim) {
            row *= (uint64_t)*dim;
        } else {
            wrong(reading, "dims", "sizes, and \"past\" or \"source\"");
        }
    }
    if (grows != 1) {
        wrong(reading, "dims", "\"past\" or \"source\" once");
    }
    state->row_bytes = row;
}

static void read_state(struct reading *reading, uint32_t node, struct eo_state_spec *state)
{
    uint32_t dtype = eo_json_member(reading->tree, node, "dtype");
    uint32_t count = eo_json_member(reading->tree, node, "count");
    int64_t layers = 1;

    if (dtype != 0 && !eo_json_is(reading->tree, dtype, "float32")) {
        wrong(reading, "dtype", "float32");
    }
    if (count != 0 && !eo_json_integer(reading->tree, count, 1, EO_MAX_LAYERS, &layers)) {
        wrong(reading, "count", "1 to 256");
    }
    state->count = (uint32_t)layers;
    state->input = read_name(reading, node, "input", state->count);
    state->output = read_name(reading, node, "output", state->count);
    read_dims(reading, node, state);
}

static void read_ids(struct reading *reading, uint32_t node, const char *key, struct eo_ids *found)
{
    uint32_t count, array = array_of(reading, node, key, MAX_IDS, &count);
    int32_t *ids = take(reading, count, sizeof *ids);

    found->ids = ids;
    for (uint32_t i = array + 1; count > 0 && ids != NULL && i < reading->tree->nodes[array].next;
         i = reading->tree->nodes[i].next) {
        int64_t id = 0;
        if (!eo_json_integer(reading->tree, i, 0, INT32_MAX, &id)) {
            wrong(reading, key, "tokens");
        }
        ids[found->count++] = (int32_t)id;
    }
}

static const char *read_text(struct reading *reading, uint32_t node, const char *key)
{
    char *text = take(reading, EO_NAME_BYTES, 1);

    if (text == NULL || eo_json_string(reading->tree, node, text, EO_NAME_BYTES) < 0) {
        wrong(reading, key, "names of engines, and versions");
        return "";
    }
    return text;
}

static void read_held(struct reading *reading, uint32_t node, struct eo_generation *generation)
{
    uint32_t count, array = array_of(reading, node, "held", EO_MAX_HELD, &count);

    for (uint32_t i = array + 1; count > 0 && i < reading->tree->nodes[array].next;
         i = reading->tree->nodes[i].next) {
        generation->held[generation->held_count++] = read_text(reading, i, "held");
    }
}

static void read_since(struct reading *reading, uint32_t node, struct eo_generation *generation)
{
    uint32_t object = eo_json_member(reading->tree, node, "since");

    if (object != 0 && (reading->tree->nodes[object].type != EO_JSON_OBJECT ||
                        eo_json_length(reading->tree, object) > EO_MAX_SINCE)) {
        wrong(reading, "since", "versions by engine");
        return;
    }
    for (uint32_t key = object + 1; object != 0 && key < reading->tree->nodes[object].next;
         key = reading->tree->nodes[key + 1].next) {
        struct eo_since *since = &generation->since[generation->since_count++];
        since->engine = read_text(reading, key, "since");
        since->version = read_text(reading, key + 1, "since");
    }
}

static uint32_t read_count(struct reading *reading, uint32_t node, const char *key, int64_t least,
                           int64_t most)
{
    uint32_t found = eo_json_member(reading->tree, node, key);
    int64_t count = least;

    if (found != 0 && !eo_json_integer(reading->tree, found, least, most, &count)) {
        wrong(reading, key, "a number in its range");
    }
    return (uint32_t)count;
}

static void read_search(struct reading *reading, uint32_t node, struct eo_search *search)
{
    static const char *const early[] = {"no", "yes", "never"}; /* from EO_EARLY_NO on */
    uint32_t told = eo_json_member(reading->tree, node, "early_stopping");
    uint32_t penalty = eo_json_member(reading->tree, node, "length_penalty");

    search->num_beams = read_count(reading, node, "num_beams", 1, EO_BEAMS_MAX);
    search->no_repeat_ngram_size = read_count(reading, node, "no_repeat_ngram_size", 0, MAX_SIZE);
    search->min_tokens = read_count(reading, node, "min_tokens", 0, MAX_SIZE);
    search->early_stopping = EO_EARLY_NO;
    while (told != 0 && search->early_stopping <= EO_EARLY_NEVER &&
           !eo_json_is(reading->tree, told, early[search->early_stopping - EO_EARLY_NO])) {
        search->early_stopping++;
    }
    search->length_penalty = 1.0;
    if (search->early_stopping > EO_EARLY_NEVER ||
        (penalty != 0 && (!eo_json_number(reading->tree, penalty, &search->length_penalty) ||
                          !(fabs(search->length_penalty) <= 100.0)))) {
        wrong(reading, "search", "early_stopping and length_penalty as generate() has them");
    }
}

/* `positions` are those of a source that always has as many; 0 for others. */
static void read_generation(struct reading *reading, uint32_t positions,
                            struct eo_generation *generation)
{
    uint32_t node = eo_json_member(reading->tree, 0, "generation");
    uint32_t count, array = array_of(reading, node, "states", EO_MAX_STATES, &count);
    bool has_source = false;

    if (count == 0) {
        wrong(reading, "states", "at least one");
        return;
    }
    for (uint32_t i = array + 1; reading->result == EO_OK && i < reading->tree->nodes[array].next;
         i = reading->tree->nodes[i].next) {
        struct eo_state_spec *state = &generation->states[generation->state_count++];
        read_state(reading, i, state);
        has_source = has_source || state->of_source;
        state->rows = state->of_source ? positions : 0;
        generation->other_bytes += state->row_bytes * state->rows;
        generation->row_bytes += state->rows == 0 ? state->row_bytes : 0;
    }
    read_ids(reading, node, "stops", &generation->stops);
    read_ids(reading, node, "start", &generation->start);
    read_ids(reading, node, "first", &generation->first);
    read_ids(reading, node, "last", &generation->last);
    read_ids(reading, node, "never", &generation->never);
    read_ids(reading, node, "never_first", &generation->never_first);
    if (has_source != (generation->start.count > 0)) {
        wrong(reading, "start", "tokens with states of a source, and only then");
    }
    read_since(reading, node, generation);
    read_search(reading, eo_json_member(reading->tree, node, "search"), &generation->search);
    read_held(reading, node, generation);
}

int eo_generation_read(const struct eo_bundle *bundle, struct eo_arena *arena,
                       struct eo_generation *generation, struct eo_failure *failure)
{
    struct eo_json_tree tree;
    struct reading reading = {.tree = &tree, .arena = arena, .failure = failure};

    memset(generation, 0, sizeof *generation);
    reading.result =
        eo_json_parse(bundle->text.data, bundle->text.bytes, EO_MANIFEST_FILE, &tree, failure);
    if (reading.result == EO_OK) {
        read_generation(&reading, bundle->manifest.sound_frames / 2, generation);
    }
    eo_json_free(&tree);
    return reading.result;
}

bool eo_generation_is_held(const struct eo_generation *generation, const char *engine)
{
    for (uint32_t i = 0; i < generation->held_count; i++) {
        if (strcmp(generation->held[i], engine) == 0) {
            return true;
        }
    }
    return false;
}

void eo_generation_name(const char *pattern, uint32_t layer, char name[EO_NAME_BYTES])
{
    const char *place = strstr(pattern, "{}");
    int before = place == NULL ? (int)strlen(pattern) : (int)(place - pattern);

    if (place == NULL) {
        (void)snprintf(name, EO_NAME_BYTES, "%s", pattern);
    } else {
        (void)snprintf(name, EO_NAME_BYTES, "%.*s%u%s", before, pattern, (unsigned)layer, place + 2);
    }
}
