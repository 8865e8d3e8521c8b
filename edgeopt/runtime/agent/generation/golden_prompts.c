/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generation/golden_prompts.h"

#include "base/json_tree.h"
#include "clock.h"
#include "compare.h"
#include "generation/open.h"
#include "golden_texts.h"
#include "memory.h"
#include "npy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROMPTS "golden/prompts.json"

/* What one entry of the file is checked with. */
struct prompt {
    struct eo_job *job;
    struct eo_generator *generator;
    const struct eo_json_tree *tree;
    const char *directory;
    uint32_t node;
};

static int open_prompts(struct eo_job *job, struct eo_json_tree *tree, struct eo_failure *failure)
{
    const void *data;
    size_t bytes;
    int result = eo_bundle_file(job->bundle, PROMPTS, &data, &bytes, failure);

    *tree = (struct eo_json_tree){0};
    if (result == EO_OK) {
        result = eo_json_parse(data, bytes, PROMPTS, tree, failure);
    }
    if (result == EO_OK &&
        (tree->nodes[0].type != EO_JSON_ARRAY || eo_json_length(tree, 0) == 0 ||
         eo_json_length(tree, 0) != job->bundle->manifest.golden_count)) {
        result = eo_fail(failure, EO_EBUNDLE, PROMPTS, "expected %u prompts",
                         (unsigned)job->bundle->manifest.golden_count);
    }
    return result;
}

/* The item of `key`, whose tokens begin at the node behind it; 0 if there is no such array. */
static uint32_t tokens_of(const struct eo_json_tree *tree, uint32_t node, const char *key)
{
    uint32_t found = eo_json_member(tree, node, key);

    return found != 0 && tree->nodes[found].type == EO_JSON_ARRAY ? found : 0;
}

static bool token_at(const struct eo_json_tree *tree, uint32_t node, int32_t *token)
{
    int64_t value = 0;
    bool is_one = eo_json_integer(tree, node, 0, INT32_MAX, &value);

    *token = (int32_t)value;
    return is_one;
}

/* Whether the text has the tokens that the reference made of it. */
static bool same_tokens(const struct prompt *prompt)
{
    const struct eo_json_tree *tree = prompt->tree;
    uint32_t array = tokens_of(tree, prompt->node, "tokens"), count, at = 0;
    const int32_t *ours = eo_generator_tokens(prompt->generator, &count);
    int32_t token;

    for (uint32_t i = array + 1; array != 0 && i < tree->nodes[array].next;
         i = tree->nodes[i].next) {
        if (at == count || !token_at(tree, i, &token) || token != ours[at++]) {
            return false;
        }
    }
    return array != 0 && at == count;
}

/* How near the logits after the prompt are; it may be read again, for they are as they were. */
static int compare_logits(const struct prompt *prompt, struct eo_agreement *agreement,
                          struct eo_failure *failure)
{
    struct eo_tensor expected = {0}, got = {.dtype = EO_FLOAT32, .rank = 2, .dims = {1, 0}};
    char name[1024];
    const void *data;
    size_t bytes;
    uint32_t count;
    const float *logits = eo_generator_logits(prompt->generator, &count);
    int wrote = snprintf(name, sizeof name, "%s/out.logits.npy", prompt->directory);
    int result;

    if (wrote < 0 || (size_t)wrote >= sizeof name) {
        return eo_fail(failure, EO_EBUNDLE, prompt->directory, "its name is too long");
    }
    result = eo_bundle_file(prompt->job->bundle, name, &data, &bytes, failure);
    if (result == EO_OK) {
        result = eo_npy_read(data, bytes, name, &expected, failure);
    }
    if (result != EO_OK) {
        return result;
    }
    got.dims[1] = (int64_t)count;
    got.count = count;
    got.data = (void *)(uintptr_t)logits; /* eo_compare writes to neither */
    *agreement = eo_compare(&got, &expected, NULL);
    free(expected.data);
    return EO_OK;
}

/* Goes on as far as the reference is sure and the context has room, and counts the tokens that are its
 * own, up to another. */
static int compare_answer(const struct prompt *prompt, int64_t *same, int64_t *wanted,
                          struct eo_failure *failure)
{
    const struct eo_json_tree *tree = prompt->tree;
    uint32_t array = tokens_of(tree, prompt->node, "answer");
    eo_piece piece = {.end = EO_END_NONE};
    bool is_same = true;

    *same = 0;
    *wanted = array == 0 ? 0 : (int64_t)eo_json_length(tree, array);
    if (array == 0) {
        return eo_fail(failure, EO_EBUNDLE, PROMPTS, "a prompt has no answer");
    }
    for (uint32_t i = array + 1; is_same && i < tree->nodes[array].next; i = tree->nodes[i].next) {
        int32_t token;
        int result = piece.end == EO_END_NONE
                         ? eo_generator_next(prompt->generator, &piece, failure)
                         : EO_OK;
        if (result != EO_OK) {
            return result;
        }
        if (piece.end == EO_END_CONTEXT) {
            *wanted = *same; /* all that there is room for */
            break;
        }
        is_same = token_at(tree, i, &token) && piece.token == token;
        *same += is_same;
        piece.token = piece.end == EO_END_NONE ? piece.token : -1; /* nothing follows an end */
    }
    return EO_OK;
}

static int read_prompt(const struct prompt *prompt, struct eo_failure *failure)
{
    struct eo_job *job = prompt->job;
    size_t bytes = 0;
    char *text = eo_text_member(prompt->tree, prompt->node, "text", &bytes);
    int64_t begin_ns;
    const eo_sampling greedy = eo_greedy();
    int result;

    if (text == NULL) {
        return eo_fail(failure, EO_EBUNDLE, PROMPTS, "a prompt has no text");
    }
    begin_ns = eo_clock_wall_ns();
    result = eo_generator_prompt(prompt->generator, text, bytes, &greedy, failure);
    free(text);
    if (result == EO_OK && !job->has_run) {
        eo_events_begin(job->events, "first");
        eo_events_integer(job->events, "wall_ns", eo_clock_wall_ns() - begin_ns);
        eo_events_end(job->events);
        eo_memory_say(job, "first");
        job->has_run = true;
    }
    return result;
}

static int check(const struct prompt *prompt, bool *agree, struct eo_failure *failure)
{
    struct eo_events *events = prompt->job->events;
    struct eo_agreement agreement = {0};
    int64_t same = 0, wanted = 0;
    bool tokens = false, agrees;
    int result = read_prompt(prompt, failure);

    if (result == EO_OK) {
        tokens = same_tokens(prompt);
        result = compare_logits(prompt, &agreement, failure);
    }
    if (result == EO_OK) {
        result = compare_answer(prompt, &same, &wanted, failure);
    }
    if (result != EO_OK) {
        return result;
    }
    agrees = tokens && agreement.same_shape &&
             agreement.cosine >= prompt->generator->session.entry->bound && /* false for NaN */
             (same == wanted || strcmp(eo_generator_precision(prompt->generator), "fp32") != 0);
    *agree = *agree && agrees;
    eo_events_begin(events, "golden");
    eo_events_text(events, "directory", prompt->directory);
    eo_events_text(events, "output", "logits");
    eo_events_number(events, "cosine", agreement.cosine);
    eo_events_number(events, "max_abs_error", agreement.max_abs_error);
    eo_events_bool(events, "agrees", agrees);
    eo_events_end(events);
    eo_events_begin(events, "continued");
    eo_events_text(events, "directory", prompt->directory);
    eo_events_bool(events, "prompt_agrees", tokens);
    eo_events_integer(events, "tokens", wanted);
    eo_events_integer(events, "same", same);
    eo_events_end(events);
    return eo_job_reader_gone(prompt->job, failure);
}

int eo_golden_prompts_check(struct eo_job *job, struct eo_generator *generator, bool *agree,
                            struct eo_failure *failure)
{
    struct eo_json_tree tree;
    struct prompt prompt = {.job = job, .generator = generator, .tree = &tree};
    uint32_t number = 0;
    int result = open_prompts(job, &tree, failure);

    for (uint32_t i = 1; result == EO_OK && i < tree.nodes[0].next; i = tree.nodes[i].next) {
        prompt.node = i;
        prompt.directory = job->bundle->manifest.goldens[number++].directory;
        result = check(&prompt, agree, failure);
    }
    eo_json_free(&tree);
    return result;
}

/* Adds the tokens of all prompts until there are `count`. */
static bool add(const struct eo_json_tree *tree, int32_t *tokens, uint32_t count, uint32_t *filled)
{
    for (uint32_t i = 1; i < tree->nodes[0].next; i = tree->nodes[i].next) {
        uint32_t array = tokens_of(tree, i, "tokens");
        for (uint32_t j = array + 1; array != 0 && *filled < count && j < tree->nodes[array].next;
             j = tree->nodes[j].next) {
            if (!token_at(tree, j, &tokens[(*filled)++])) {
                return false;
            }
        }
    }
    return true;
}

int eo_golden_prompts_fill(struct eo_job *job, int32_t *tokens, uint32_t count,
                           struct eo_failure *failure)
{
    struct eo_json_tree tree;
    uint32_t filled = 0, before;
    int result = open_prompts(job, &tree, failure);

    while (result == EO_OK && filled < count) {
        before = filled;
        if (!add(&tree, tokens, count, &filled) || filled == before) {
            result = eo_fail(failure, EO_EBUNDLE, PROMPTS, "holds no tokens of a prompt");
        }
    }
    eo_json_free(&tree);
    return result;
}
