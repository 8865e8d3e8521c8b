/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "arguments.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

const char eo_usage[] =
    "Commands, which write one JSON object a line:\n"
    "run --bundle PATH [--engine NAME] [--precision P] [--seq-len N] [--warmup N] [--runs N]\n"
    "  [--libraries PATH:...] [--threads N] [--cpus LIST] [--duration-ms N] [--graph NAME]\n"
    "  [--option KEY=VALUE]... [--idle-ms N] [--batch N]\n"
    "  [--read MS=PATH or MS=COMMAND]...: read so often\n"
    "blocks [...]: as run, as often as each line of input says\n"
    "texts [...]: as run, of lines as for read\n"
    "operators [...]: as run, with operators by the engine's profiler\n"
    "read [...]: for lines {\"text\": ..., \"pair\": ...} of input, or\n"
    "  {\"image\": BYTES} and a binary PPM\n"
    "tokens [...]: of such lines, without the network\n"
    "clock: that which measures, for each line of input\n"
    "info [--engine NAME] [--libraries PATH:...]\n"
    "--version | --help\n";

static int parse_pair(const char *option, char *text, struct eo_option *pairs, uint32_t *count,
                      uint32_t most, struct eo_failure *failure)
{
    char *equals = strchr(text, '=');

    if (equals == NULL || equals == text) {
        return eo_fail(failure, EO_EINPUT, option, "expected NAME=VALUE, found %s", text);
    }
    if (*count == most) {
        return eo_fail(failure, EO_EINPUT, option, "given more than %u times", (unsigned)most);
    }
    *equals = '\0';
    pairs[(*count)++] = (struct eo_option){.key = text, .value = equals + 1};
    return EO_OK;
}

static int parse_option(const char *option, char *value, struct eo_arguments *arguments,
                        struct eo_failure *failure)
{
    static const struct {
        const char *name;
        size_t offset;
        int32_t low, high; /* high is 0: a text */
    } members[] = {{"--bundle", offsetof(struct eo_arguments, bundle), 0, 0},
                   {"--engine", offsetof(struct eo_arguments, session.engine), 0, 0},
                   {"--precision", offsetof(struct eo_arguments, session.precision), 0, 0},
                   {"--graph", offsetof(struct eo_arguments, session.graph), 0, 0},
                   {"--libraries", offsetof(struct eo_arguments, session.libraries), 0, 0},
                   {"--cpus", offsetof(struct eo_arguments, session.cpus), 0, 0},
                   {"--threads", offsetof(struct eo_arguments, session.threads), 1, 1024},
                   {"--batch", offsetof(struct eo_arguments, session.batch), 1, 1024},
                   {"--seq-len", offsetof(struct eo_arguments, seq_len), 1, 1 << 20},
                   {"--warmup", offsetof(struct eo_arguments, warmup), 0, 1000000000},
                   {"--runs", offsetof(struct eo_arguments, runs), 0, 1000000000},
                   {"--duration-ms", offsetof(struct eo_arguments, duration_ms), 0, 1000000000},
                   {"--idle-ms", offsetof(struct eo_arguments, idle_ms), 0, 1000000}};

    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++) {
        void *member = (char *)arguments + members[i].offset;
        char *end = NULL;
        long number;

        if (strcmp(option, members[i].name) != 0) {
            continue;
        }
        if (members[i].high == 0) {
            *(const char **)member = value;
            return EO_OK;
        }
        errno = 0;
        number = strtol(value, &end, 10);
        if (errno != 0 || end == value || *end != '\0' || number < members[i].low ||
            number > members[i].high) {
            return eo_fail(failure, EO_EINPUT, option, "expected %d to %d, found %s",
                           (int)members[i].low, (int)members[i].high, value);
        }
        *(int32_t *)member = (int32_t)number;
        return EO_OK;
    }
    if (strcmp(option, "--option") == 0) {
        return parse_pair(option, value, arguments->options, &arguments->session.option_count,
                          EO_MAX_OPTIONS, failure);
    }
    if (strcmp(option, "--read") == 0) {
        return parse_pair(option, value, arguments->reads, &arguments->read_count, EO_MAX_READS,
                          failure);
    }
    return eo_fail(failure, EO_EINPUT, option, "unknown option; edgeopt-agent --help lists them");
}

static int parse_command(const char *word, struct eo_arguments *arguments,
                         struct eo_failure *failure)
{
    static const struct {
        const char *name;
        enum eo_command command;
    } commands[] = {{"run", EO_RUN},
                    {"blocks", EO_BLOCKS},
                    {"texts", EO_TEXTS},
                    {"operators", EO_OPERATORS},
                    {"read", EO_READ},
                    {"tokens", EO_TOKENS},
                    {"info", EO_INFO},
                    {"clock", EO_CLOCK},
                    {"--version", EO_VERSION_ONLY},
                    {"--help", EO_HELP}};

    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(word, commands[i].name) == 0) {
            arguments->command = commands[i].command;
            return EO_OK;
        }
    }
    return eo_fail(failure, EO_EINPUT, word,
                   "unknown command; edgeopt-agent --help lists them");
}

int eo_parse(int argc, char **argv, struct eo_arguments *arguments, struct eo_failure *failure)
{
    int result;

    *arguments = (struct eo_arguments){.session = EO_SESSION_OPTIONS, .warmup = 5, .runs = 50};
    arguments->session.options = arguments->options;
    if (argc < 2) {
        return eo_fail(failure, EO_EINPUT, "arguments",
                       "no command; edgeopt-agent --help lists them");
    }
    result = parse_command(argv[1], arguments, failure);
    for (int i = 2; result == EO_OK && i < argc; i += 2) {
        result = i + 1 == argc
                     ? eo_fail(failure, EO_EINPUT, argv[i], "needs a value, or is unknown")
                     : parse_option(argv[i], argv[i + 1], arguments, failure);
    }
    if (result == EO_OK && arguments->bundle == NULL &&
        (arguments->command == EO_RUN || arguments->command == EO_BLOCKS ||
         arguments->command == EO_TEXTS || arguments->command == EO_OPERATORS ||
         arguments->command == EO_READ ||
         arguments->command == EO_TOKENS)) {
        result = eo_fail(failure, EO_EINPUT, "--bundle", "is missing");
    }
    return result;
}
