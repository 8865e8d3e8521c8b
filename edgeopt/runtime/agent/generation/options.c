/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generation/options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char eo_generate_usage[] =
    "edgeopt-generation-agent, commands, which write one JSON object a line:\n"
    "run --bundle PATH --seq-len N [--new-tokens N] [--context N]: a prompt of so many tokens,\n"
    "  and so many new ones; with the options of edgeopt-agent run, but for --duration-ms,\n"
    "  --graph and --batch\n"
    "read [--beams N] [...]: for lines {\"text\": ..., \"max_tokens\": ...} of input, pieces of what follows\n"
    "clock: that which measures, for each line of input\n"
    "--version | --help\n";

static int number(const char *option, const char *text, int32_t *value, struct eo_failure *failure)
{
    char *end = NULL;
    long found;

    errno = 0;
    found = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || found < 1 || found > 1 << 20) {
        return eo_fail(failure, EO_EINPUT, option, "expected 1 to %d, found %s", 1 << 20, text);
    }
    *value = (int32_t)found;
    return EO_OK;
}

int eo_generate_parse(int *argc, char **argv, struct eo_generate_options *options,
                      struct eo_failure *failure)
{
    int kept = 0, result = EO_OK;

    *options = (struct eo_generate_options){.new_tokens = 16};
    for (int i = 0; result == EO_OK && i < *argc; i++) {
        int32_t *value = strcmp(argv[i], "--context") == 0      ? &options->context
                         : strcmp(argv[i], "--new-tokens") == 0 ? &options->new_tokens
                         : strcmp(argv[i], "--beams") == 0      ? &options->beams
                                                                : NULL;
        if (value == NULL || i + 1 == *argc) { /* one without a value is told as any other */
            argv[kept++] = argv[i];
        } else {
            result = number(argv[i], argv[i + 1], value, failure);
            i++;
        }
    }
    *argc = kept;
    return result;
}
