/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Goes on with a prompt, and prints the answer as it comes. Ctrl-C ends the answer, not the program.
 *
 *     generate BUNDLE PROMPT...    one after the other
 *
 * Exit status: 0 done, 1 a prompt failed, 2 something does not open here. */
#include "edgeopt_rt.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static eo_generator *generator;

static void complain(const eo_failure *failure)
{
    fprintf(stderr, "generate: %s: %s\n", failure->where, failure->message);
}

static void stop(int number)
{
    (void)number;
    eo_generator_cancel(generator); /* stores one atomic flag: a signal handler may */
}

static int print(void *context, const eo_piece *piece)
{
    (void)context;
    fwrite(piece->text, 1, piece->bytes, stdout);
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    const eo_sampling how = {.struct_bytes = (uint32_t)sizeof how, .max_tokens = 64};
    eo_bundle *bundle = NULL;
    eo_failure failure;
    uint64_t bytes;
    int status = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: generate BUNDLE PROMPT...\n");
        return 2;
    }
    if (eo_bundle_open(argv[1], &bundle, &failure) != EO_OK) {
        complain(&failure);
        return 2;
    }
    if (eo_generator_cache_bytes(bundle, 0, &bytes, &failure) != EO_OK ||
        eo_generator_open(bundle, NULL, &generator, &failure) != EO_OK) {
        complain(&failure);
        eo_bundle_close(bundle);
        return 2;
    }
    fprintf(stderr, "%s on %s %s, %s; %u tokens, %.1f MB of cache\n", eo_bundle_name(bundle),
            eo_generator_engine(generator), eo_generator_engine_version(generator),
            eo_generator_precision(generator), (unsigned)eo_generator_context(generator),
            (double)bytes / 1e6);
    signal(SIGINT, stop);
    for (int i = 2; i < argc; i++) {
        printf("%s", argv[i]);
        if (eo_generator_prompt(generator, argv[i], strlen(argv[i]), &how, &failure) != EO_OK ||
            eo_generator_run(generator, print, NULL, &failure) != EO_OK) {
            complain(&failure);
            status = 1;
        }
        printf("\n");
    }
    signal(SIGINT, SIG_DFL);
    eo_generator_close(generator);
    eo_bundle_close(bundle);
    return status;
}
