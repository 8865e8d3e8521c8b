/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Runs a bundle of any text task on texts from the command line, or on the lines of stdin.
 *
 *     classify [-e ENGINE] BUNDLE TEXT...              texts
 *     classify [-e ENGINE] BUNDLE QUESTION CONTEXT...  question answering: two arguments a question
 *     classify [-e ENGINE] BUNDLE < FILE               a text a line; question TAB context
 *
 * Exit status: 0 done, 1 a text failed, 2 the bundle does not open here. */
#include "edgeopt_rt.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BEST = 5, VALUES = 8 };

static void complain(const eo_failure *failure)
{
    fprintf(stderr, "classify: %s: %s\n", failure->where, failure->message);
}

static void print_result(const eo_bundle *bundle, const eo_text *text, const eo_result *result)
{
    const char *read = text->pair != NULL ? text->pair : text->text; /* where begin..end lie */

    if (result->vector != NULL) {
        printf("  %u values:", (unsigned)result->vector_count);
        for (uint32_t i = 0; i < result->vector_count && i < VALUES; i++) {
            printf(" %.4f", result->vector[i]);
        }
        putchar('\n');
    }
    for (uint32_t i = 0; i < result->item_count; i++) {
        const eo_item *item = &result->items[i];
        const char *label = eo_bundle_label(bundle, item->label);
        if (item->end == 0 && i == BEST) {
            break; /* of many classes the best; of a text's words and spans all */
        }
        printf("  %.4f", item->score);
        if (label != NULL && strcmp(eo_bundle_task(bundle), "question-answering") != 0) {
            printf("  %s", label);
        }
        if (item->end > 0) {
            printf("  \"%.*s\"", (int)(item->end - item->begin), read + item->begin);
        }
        putchar('\n');
    }
    if (result->truncated) {
        printf("  (only the first %u tokens were read)\n", (unsigned)result->tokens);
    }
}

static bool run_one(const eo_bundle *bundle, eo_session *session, const char *text,
                    const char *pair)
{
    eo_text given = {.text = text, .bytes = strlen(text), .pair = pair};
    eo_failure failure;

    given.pair_bytes = pair == NULL ? 0 : strlen(pair);
    printf("%s\n", text);
    if (eo_session_run_texts(session, &given, 1, &failure) != EO_OK) {
        complain(&failure);
        return false;
    }
    print_result(bundle, &given, eo_session_result(session, 0));
    return true;
}

static bool run_lines(const eo_bundle *bundle, eo_session *session, FILE *file)
{
    bool fine = true;
    char *line = NULL;
    size_t room = 0;
    ssize_t bytes;

    while ((bytes = getline(&line, &room, file)) >= 0) {
        char *tab;
        line[strcspn(line, "\r\n")] = '\0';
        tab = strchr(line, '\t');
        if (tab != NULL) {
            *tab++ = '\0';
        }
        fine = run_one(bundle, session, line, tab) && fine;
    }
    free(line);
    return fine;
}

int main(int argc, char **argv)
{
    eo_session_options options = EO_SESSION_OPTIONS;
    eo_bundle *bundle = NULL;
    eo_session *session = NULL;
    eo_failure failure;
    bool fine = true;
    int option;

    while ((option = getopt(argc, argv, "e:")) == 'e') {
        options.engine = optarg;
    }
    if (option != -1 || optind == argc) {
        fprintf(stderr, "usage: classify [-e ENGINE] BUNDLE [TEXT...]\n");
        return 2;
    }
    if (eo_bundle_open(argv[optind++], &bundle, &failure) != EO_OK ||
        eo_session_open(bundle, &options, &session, &failure) != EO_OK) {
        complain(&failure);
        eo_bundle_close(bundle);
        return 2;
    }
    fprintf(stderr, "%s: %s on %s %s, %s\n", eo_bundle_name(bundle), eo_bundle_task(bundle),
            eo_session_engine(session), eo_session_engine_version(session),
            eo_session_precision(session));
    if (optind == argc) {
        fine = run_lines(bundle, session, stdin);
    }
    while (optind < argc) {
        const char *text = argv[optind++];
        bool pair = optind < argc && strcmp(eo_bundle_task(bundle), "question-answering") == 0;
        fine = run_one(bundle, session, text, pair ? argv[optind++] : NULL) && fine;
    }
    eo_session_close(session);
    eo_bundle_close(bundle);
    return fine ? 0 : 1;
}
