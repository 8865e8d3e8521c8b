/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Early exit: labels texts with a small model if it is sure, else with a large one.
 *
 *     cascade CASCADE SMALL LARGE TEXT...    texts; CASCADE is what `edgeopt cascade` wrote
 *     cascade CASCADE SMALL LARGE < FILE     a text a line
 *
 * Exit status: 0 done, 1 a text failed, 2 something does not open here. */
#include "edgeopt_rt.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 8 }; /* those of so many that are not sure go on together */

static void complain(const eo_failure *failure)
{
    fprintf(stderr, "cascade: %s: %s\n", failure->where, failure->message);
}

/* The next texts: arguments up to the NULL after them, or without any the lines of stdin. Returns
 * how many. */
static uint32_t take_texts(char ***words, bool lines, char *kept[BATCH], size_t room[BATCH],
                           eo_text texts[BATCH])
{
    uint32_t count = 0;

    while (count < BATCH) {
        const char *text = **words;
        if (lines && getline(&kept[count], &room[count], stdin) >= 0) {
            kept[count][strcspn(kept[count], "\r\n")] = '\0';
            text = kept[count];
        } else if (text != NULL) {
            ++*words;
        } else {
            break;
        }
        texts[count++] = (eo_text){.text = text, .bytes = strlen(text)};
    }
    return count;
}

/* Returns how many of the texts left early, or -1. */
static int run(eo_cascade *cascade, const eo_bundle *bundle, const eo_text *texts, uint32_t count)
{
    eo_failure failure;
    int early = 0;

    if (eo_cascade_run_texts(cascade, texts, count, &failure) != EO_OK) {
        complain(&failure);
        return -1;
    }
    for (uint32_t i = 0; i < count; i++) {
        const eo_item *best = &eo_cascade_result(cascade, i)->items[0];
        printf("%s\n  %.4f  %s%s\n", texts[i].text, best->score,
               eo_bundle_label(bundle, best->label),
               eo_cascade_early(cascade, i) ? "  (early)" : "");
        early += (int)eo_cascade_early(cascade, i);
    }
    return early;
}

int main(int argc, char **argv)
{
    eo_session_options options = EO_SESSION_OPTIONS; /* cascade.json names engine and precision */
    eo_bundle *small = NULL, *large = NULL;
    eo_cascade *cascade = NULL;
    eo_failure failure;
    eo_text texts[BATCH];
    char *kept[BATCH] = {NULL};
    size_t room[BATCH] = {0};
    char **words = argv + 4;
    uint32_t count, total = 0, early = 0;
    bool fine = true;

    if (argc < 4) {
        fprintf(stderr, "usage: cascade CASCADE SMALL LARGE [TEXT...]\n");
        return 2;
    }
    options.batch = BATCH;
    if (eo_bundle_open(argv[2], &small, &failure) != EO_OK ||
        eo_bundle_open(argv[3], &large, &failure) != EO_OK ||
        eo_cascade_open(argv[1], small, large, &options, &cascade, &failure) != EO_OK) {
        complain(&failure);
        eo_bundle_close(large);
        eo_bundle_close(small);
        return 2;
    }
    while ((count = take_texts(&words, argc == 4, kept, room, texts)) > 0) {
        int left = run(cascade, large, texts, count);
        fine = fine && left >= 0;
        total += count;
        early += left > 0 ? (uint32_t)left : 0;
    }
    fprintf(stderr, "%u of %u texts left early\n", (unsigned)early, (unsigned)total);
    for (int i = 0; i < BATCH; i++) {
        free(kept[i]);
    }
    eo_cascade_close(cascade);
    eo_bundle_close(large);
    eo_bundle_close(small);
    return fine ? 0 : 1;
}
