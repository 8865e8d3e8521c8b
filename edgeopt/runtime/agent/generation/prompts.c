/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generation/prompts.h"

#include "base/json_tree.h"
#include "generation/open.h"
#include "golden_texts.h"

#include <stdio.h>
#include <stdlib.h>

/* One line of input, read. */
struct prompt {
    char *text;
    size_t bytes;
    eo_sampling how;
    char *stops[EO_STOPS_MAX];
};

static void close_prompt(struct prompt *prompt)
{
    free(prompt->text);
    for (uint32_t i = 0; i < prompt->how.stop_count; i++) {
        free(prompt->stops[i]);
    }
}

static bool read_stops(const struct eo_json_tree *tree, uint32_t node, struct prompt *prompt)
{
    if (tree->nodes[node].type != EO_JSON_ARRAY) {
        return false;
    }
    for (uint32_t i = node + 1; i < tree->nodes[node].next; i = tree->nodes[i].next) {
        size_t room = (size_t)(tree->nodes[i].end - tree->nodes[i].begin) + 1;
        char *stop = prompt->how.stop_count < EO_STOPS_MAX ? malloc(room) : NULL;
        if (stop == NULL || eo_json_string(tree, i, stop, room) < 0) {
            free(stop);
            return false;
        }
        prompt->stops[prompt->how.stop_count++] = stop;
    }
    prompt->how.stops = (const char *const *)prompt->stops;
    return true;
}

/* Reads the member `key` of the line; false if it is none, or not of its type. */
static bool read_member(const struct eo_json_tree *tree, uint32_t key, struct prompt *prompt)
{
    eo_sampling *how = &prompt->how;
    const struct {
        const char *name;
        float *number;
        uint32_t *count;
    } members[] = {{"temperature", &how->temperature, NULL},
                   {"top_p", &how->top_p, NULL},
                   {"min_p", &how->min_p, NULL},
                   {"repetition_penalty", &how->repetition_penalty, NULL},
                   {"top_k", NULL, &how->top_k},
                   {"num_beams", NULL, &how->num_beams},
                   {"no_repeat_ngram_size", NULL, &how->no_repeat_ngram_size},
                   {"min_tokens", NULL, &how->min_tokens},
                   {"max_tokens", NULL, &how->max_tokens}};
    uint32_t value = key + 1;
    int64_t whole = 0;
    double number = 0;

    if (eo_json_is(tree, key, "text")) {
        return true;
    }
    if (eo_json_is(tree, key, "stops")) {
        return read_stops(tree, value, prompt);
    }
    if (eo_json_is(tree, key, "length_penalty")) {
        return eo_json_number(tree, value, &how->length_penalty);
    }
    if (eo_json_is(tree, key, "early_stopping")) {
        bool is_one = eo_json_integer(tree, value, 0, EO_EARLY_NEVER, &whole);
        how->early_stopping = (uint32_t)whole;
        return is_one;
    }
    if (eo_json_is(tree, key, "seed")) {
        bool is_one = eo_json_integer(tree, value, 0, INT64_MAX, &whole);
        how->seed = (uint64_t)whole;
        return is_one;
    }
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        if (!eo_json_is(tree, key, members[i].name)) {
            continue;
        }
        if (members[i].number != NULL) {
            bool is_one = eo_json_number(tree, value, &number);
            *members[i].number = (float)number;
            return is_one;
        }
        if (!eo_json_integer(tree, value, 0, UINT32_MAX, &whole)) {
            return false;
        }
        *members[i].count = (uint32_t)whole;
        return true;
    }
    return false;
}

static int read_prompt(const struct eo_json_tree *tree, struct prompt *prompt,
                       struct eo_failure *failure)
{
    prompt->text = eo_text_member(tree, 0, "text", &prompt->bytes);
    if (prompt->text == NULL) {
        return eo_fail(failure, EO_EINPUT, "stdin", "expected {\"text\": ...} in each line");
    }
    for (uint32_t i = 1; i < tree->nodes[0].next; i = tree->nodes[i + 1].next) {
        if (!read_member(tree, i, prompt)) {
            char name[64] = "";
            (void)eo_json_string(tree, i, name, sizeof name); /* a longer one stays untold */
            return eo_fail(failure, EO_EINPUT, "stdin", "%s is unknown, or of another type", name);
        }
    }
    return EO_OK;
}

static int say_pieces(struct eo_job *job, struct eo_generator *generator, struct eo_failure *failure)
{
    struct eo_events *events = job->events;
    eo_piece piece = {.end = EO_END_NONE};
    int result = EO_OK;

    while (result == EO_OK && piece.end == EO_END_NONE) {
        result = eo_generator_next(generator, &piece, failure);
        if (result == EO_OK) {
            eo_events_begin(events, "piece");
            eo_events_text_bytes(events, "text", piece.text, piece.bytes);
            eo_events_integer(events, "token", piece.token);
            eo_events_integer(events, "end", piece.end);
            eo_events_end(events);
            result = eo_job_reader_gone(job, failure);
        }
    }
    return result;
}

static int answer(struct eo_job *job, struct eo_generator *generator, const char *line, size_t bytes,
                  struct eo_failure *failure)
{
    struct eo_json_tree tree;
    struct prompt prompt = {.text = NULL, .how = EO_SAMPLING};
    uint32_t count;
    int result = eo_json_parse(line, bytes, "stdin", &tree, failure);

    if (result == EO_OK) {
        result = read_prompt(&tree, &prompt, failure);
    }
    if (result == EO_OK) {
        result = eo_generator_prompt(generator, prompt.text, prompt.bytes, &prompt.how, failure);
    }
    if (result == EO_OK) {
        (void)eo_generator_tokens(generator, &count);
        eo_events_begin(job->events, "prompt");
        eo_events_integer(job->events, "tokens", (int64_t)count);
        eo_events_integer(job->events, "reused", (int64_t)eo_generator_reused(generator));
        eo_events_end(job->events);
        result = say_pieces(job, generator, failure);
    }
    close_prompt(&prompt);
    eo_json_free(&tree);
    return result;
}

int eo_prompts_answer(struct eo_job *job, const struct eo_generate_options *options,
                      struct eo_failure *failure)
{
    struct eo_generator *generator = NULL;
    char *line = NULL;
    size_t size = 0;
    ssize_t bytes;
    int result = eo_job_open_bundle(job, failure);

    if (result == EO_OK) {
        result = eo_open_generator(job, options, &generator, failure);
    }
    while (result == EO_OK && (bytes = getline(&line, &size, stdin)) >= 0) {
        if (line[0] != '\n') { /* which says no more than that the host lives */
            result = answer(job, generator, line, (size_t)bytes, failure);
        }
    }
    free(line);
    job->session = NULL; /* the generator's */
    eo_generator_close(generator);
    return result;
}
