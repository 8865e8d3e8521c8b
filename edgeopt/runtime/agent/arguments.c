/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "arguments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char eo_usage[] =
    "edgeopt-agent run --bundle PATH [--engine NAME] [--precision P] [--seq-len N]\n"
    "                  [--warmup N] [--runs N] [--libraries PATH:...] [--threads N]\n"
    "                  [--duration-ms N] [--cpus LIST] [--option KEY=VALUE]... [--graph NAME]\n"
    "edgeopt-agent blocks --bundle PATH [...]   as run, but times as many runs as each line of\n"
    "                                           standard input says, when it comes\n"
    "edgeopt-agent texts --bundle PATH [...]    as run, but times each text of lines as of read\n"
    "edgeopt-agent read --bundle PATH [...]   for lines {\"text\": ..., \"pair\": ...} on standard\n"
    "                                         input, or {\"image\": BYTES} and a binary PPM\n"
    "edgeopt-agent tokens --bundle PATH [--seq-len N]   for such lines: what the tokenizer makes of\n"
    "                                                   them, without the network\n"
    "edgeopt-agent info [--engine NAME] [--libraries PATH:...]\n"
    "edgeopt-agent --version | --help\n"
    "\n"
    "Writes one JSON object a line on standard output.\n";

static int wrong(struct eo_failure *failure, const char *option, const char *expected,
                 const char *found)
{
    return eo_fail(failure, EO_EINPUT, option, "expected %s, found %s", expected, found);
}

static int parse_integer(const char *option, const char *text, int64_t low, int64_t high,
                         int64_t *out, struct eo_failure *failure)
{
    char *end = NULL;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        return eo_fail(failure, EO_EINPUT, option, "expected %lld to %lld, found %s",
                       (long long)low, (long long)high, text);
    }
    *out = value;
    return EO_OK;
}

static int parse_engine_option(char *text, struct eo_arguments *arguments,
                               struct eo_failure *failure)
{
    char *equals = strchr(text, '=');
    uint32_t *count = &arguments->session.option_count;

    if (equals == NULL || equals == text) {
        return wrong(failure, "--option", "NAME=VALUE", text);
    }
    if (*count == EO_MAX_OPTIONS) {
        return eo_fail(failure, EO_EINPUT, "--option", "given more than %d times", EO_MAX_OPTIONS);
    }
    *equals = '\0';
    arguments->options[(*count)++] = (struct eo_option){.key = text, .value = equals + 1};
    return EO_OK;
}

static int parse_option(const char *option, char *value, struct eo_arguments *arguments,
                        struct eo_failure *failure)
{
    struct eo_session_options *session = &arguments->session;
    const struct {
        const char *name;
        const char **text;
    } texts[] = {{"--bundle", &arguments->bundle},
                 {"--engine", &session->engine},
                 {"--precision", &session->precision},
                 {"--graph", &session->graph},
                 {"--libraries", &session->libraries},
                 {"--cpus", &session->cpus}};
    int64_t number = 0;
    int result = EO_OK;

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(option, texts[i].name) == 0) {
            *texts[i].text = value;
            return EO_OK;
        }
    }
    if (strcmp(option, "--option") == 0) {
        return parse_engine_option(value, arguments, failure);
    }
    if (strcmp(option, "--threads") == 0) {
        result = parse_integer(option, value, 1, 1024, &number, failure);
        session->threads = (int32_t)number;
    } else if (strcmp(option, "--seq-len") == 0) {
        result = parse_integer(option, value, 1, 1 << 20, &number, failure);
        arguments->seq_len = (int32_t)number;
    } else if (strcmp(option, "--warmup") == 0) {
        result = parse_integer(option, value, 0, 1000000000, &arguments->warmup, failure);
    } else if (strcmp(option, "--runs") == 0) {
        result = parse_integer(option, value, 0, 1000000000, &arguments->runs, failure);
    } else if (strcmp(option, "--duration-ms") == 0) {
        result = parse_integer(option, value, 0, 1000000000, &arguments->duration_ms, failure);
    } else {
        result = eo_fail(failure, EO_EINPUT, option,
                         "unknown option; edgeopt-agent --help lists them");
    }
    return result;
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
                    {"read", EO_READ},
                    {"tokens", EO_TOKENS},
                    {"info", EO_INFO},
                    {"--version", EO_VERSION_ONLY},
                    {"--help", EO_HELP}};

    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(word, commands[i].name) == 0) {
            arguments->command = commands[i].command;
            return EO_OK;
        }
    }
    return eo_fail(failure, EO_EINPUT, word,
                   "unknown command (known: run, blocks, texts, read, tokens, info, --version, --help)");
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
         arguments->command == EO_TEXTS || arguments->command == EO_READ ||
         arguments->command == EO_TOKENS)) {
        result = eo_fail(failure, EO_EINPUT, "--bundle", "is missing");
    }
    return result;
}
