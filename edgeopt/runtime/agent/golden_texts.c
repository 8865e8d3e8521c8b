/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "golden_texts.h"

#include "base/json_tree.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Value `at` of a result: of the vector, or the score of label `at`. NaN if there is none. */
static double value_of(const struct eo_result *result, uint32_t at)
{
    if (result->vector != NULL) {
        return at < result->vector_count ? (double)result->vector[at] : NAN;
    }
    for (uint32_t i = 0; i < result->item_count; i++) {
        if (result->items[i].label == at) {
            return (double)result->items[i].score;
        }
    }
    return NAN;
}

/* How far off a result is: a vector by its length, scores beyond 1 by the largest (as
 * edgeopt/lower/judged.py has it). False if a value is missing or none. */
static bool compare(const struct eo_json_tree *tree, uint32_t values,
                    const struct eo_result *result, double *off, double *cosine)
{
    double squares = 0, got = 0, product = 0, error = 0, most = 0, most_error = 0;
    uint32_t at = 0;

    for (uint32_t i = values + 1; i < tree->nodes[values].next; i = tree->nodes[i].next) {
        double wanted, found = value_of(result, at++);
        if (!eo_json_number(tree, i, &wanted) || !isfinite(found)) {
            return false;
        }
        squares += wanted * wanted;
        got += found * found;
        product += wanted * found;
        error += (found - wanted) * (found - wanted);
        most = fabs(wanted) > most ? fabs(wanted) : most;
        most_error = fabs(found - wanted) > most_error ? fabs(found - wanted) : most_error;
    }
    if (at != (result->vector != NULL ? result->vector_count : result->item_count)) {
        return false;
    }
    *off = result->vector == NULL ? most_error / (most > 1 ? most : 1)
           : squares > 0          ? sqrt(error / squares)
                                  : sqrt(error);
    *cosine = squares > 0 && got > 0 ? product / sqrt(squares * got) : error == 0;
    return true;
}

static int check_text(const struct eo_json_tree *tree, uint32_t node, double most,
                      struct eo_session *session, struct eo_events *events, uint32_t number,
                      bool *agree, struct eo_failure *failure)
{
    uint32_t values = eo_json_member(tree, node, "values");
    struct eo_text text = {0};
    char *first = eo_text_member(tree, node, "text", &text.bytes);
    char *second = eo_text_member(tree, node, "pair", &text.pair_bytes);
    double off = NAN, cosine = NAN;
    char name[32];
    bool agrees;
    int result;

    text.text = first;
    text.pair = second;
    result = first == NULL || values == 0 || tree->nodes[values].type != EO_JSON_ARRAY ||
                     snprintf(name, sizeof name, "text %u", (unsigned)number) < 0
                 ? eo_fail(failure, EO_EBUNDLE, EO_GOLDEN_TEXTS, "entry %u has no text or values",
                           (unsigned)number)
                 : eo_session_run_texts(session, &text, 1, failure);
    if (result == EO_OK) {
        agrees = compare(tree, values, eo_session_result(session, 0), &off, &cosine) && off <= most;
        *agree = *agree && agrees;
        eo_events_begin(events, "golden");
        eo_events_text(events, "directory", EO_GOLDEN_TEXTS);
        eo_events_text(events, "output", name);
        eo_events_number(events, "cosine", cosine);
        eo_events_number(events, "max_abs_error", off);
        eo_events_bool(events, "agrees", agrees);
        eo_events_end(events);
    }
    free(first);
    free(second);
    return result;
}

int eo_golden_texts_check(struct eo_bundle *bundle, struct eo_session *session,
                          struct eo_events *events, bool *agree, struct eo_failure *failure)
{
    struct eo_json_tree tree;
    const void *data;
    size_t bytes;
    double most;
    uint32_t texts, number = 0;
    int result;

    if (session->manifest->task->input != EO_TEXT ||
        eo_manifest_find(&bundle->manifest, EO_GOLDEN_TEXTS) < 0) {
        return EO_OK;
    }
    result = eo_bundle_file(bundle, EO_GOLDEN_TEXTS, &data, &bytes, failure);
    if (result != EO_OK) {
        return result;
    }
    result = eo_json_parse(data, bytes, EO_GOLDEN_TEXTS, &tree, failure);
    if (result == EO_OK) {
        texts = eo_json_member(&tree, 0, "texts");
        if (texts == 0 || tree.nodes[texts].type != EO_JSON_ARRAY ||
            !eo_json_number(&tree,
                            eo_json_member(&tree, eo_json_member(&tree, 0, "error_max"),
                                           eo_session_precision(session)),
                            &most)) {
            result = eo_fail(failure, EO_EBUNDLE, EO_GOLDEN_TEXTS,
                             "expected texts, and error_max for %s", eo_session_precision(session));
        }
        for (uint32_t i = texts + 1; result == EO_OK && i < tree.nodes[texts].next;
             i = tree.nodes[i].next) {
            result = check_text(&tree, i, most, session, events, number++, agree, failure);
        }
    }
    eo_json_free(&tree);
    return result;
}

char *eo_text_member(const struct eo_json_tree *tree, uint32_t node, const char *key, size_t *bytes)
{
    uint32_t found = eo_json_member(tree, node, key);
    size_t room =
        found == 0 ? 0 : (size_t)(tree->nodes[found].end - tree->nodes[found].begin) + 1;
    char *text = found == 0 ? NULL : malloc(room);
    int64_t decoded = text == NULL ? -1 : eo_json_string(tree, found, text, room);

    if (decoded < 0) {
        free(text);
        return NULL;
    }
    *bytes = (size_t)decoded;
    return text;
}
