#include "arguments.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const char eo_usage[] =
    "edgeopt-agent run --engine NAME --library LIB --model FILE --golden DIR [--golden DIR]...\n"
    "                  [--threads N] [--warmup N] [--runs N] [--cosine-min X]\n"
    "                  [--input MODEL=ARTIFACT]... [--output MODEL=ARTIFACT]... "
    "[--option KEY=VALUE]...\n"
    "edgeopt-agent info [--engine NAME --library LIB]\n"
    "edgeopt-agent --version | --help\n"
    "\n"
    "Writes one JSON object a line on standard output. Engines: onnx, openvino, tvm.\n";

static const struct eo_engine *const engines[] = {&eo_engine_ort, &eo_engine_openvino,
                                                  &eo_engine_tvm};

static int parse_engine(const char *name, const struct eo_engine **engine,
                        struct eo_failure *failure)
{
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++) {
        if (strcmp(name, engines[i]->name) == 0) {
            *engine = engines[i];
            return 0;
        }
    }
    return eo_fail(failure, "--engine", "unknown engine %s (this agent knows: onnx, openvino, tvm)", name);
}

static int parse_integer(const char *option, const char *text, int64_t low, int64_t high,
                         int64_t *out, struct eo_failure *failure)
{
    char *end = NULL;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < low || value > high) {
        return eo_fail(failure, option, "expected %lld to %lld, found %s", (long long)low,
                       (long long)high, text);
    }
    *out = value;
    return 0;
}

static int parse_pair(const char *option, char *text, struct eo_option *pairs, size_t limit,
                      size_t *count, struct eo_failure *failure)
{
    char *equals = strchr(text, '=');

    if (equals == NULL || equals == text || equals[1] == '\0') {
        return eo_fail(failure, option, "expected NAME=VALUE, found %s", text);
    }
    if (*count == limit) {
        return eo_fail(failure, option, "given more than %zu times", limit);
    }
    *equals = '\0';
    pairs[*count].key = text;
    pairs[*count].value = equals + 1;
    (*count)++;
    return 0;
}

static int parse_cosine(const char *text, double *out, struct eo_failure *failure)
{
    char *end = NULL;
    double value = strtod(text, &end);

    if (end == text || *end != '\0' || !(value >= -1.0 && value <= 1.0)) {
        return eo_fail(failure, "--cosine-min", "expected -1 to 1, found %s", text);
    }
    *out = value;
    return 0;
}

static int parse_option(const char *option, char *value, struct eo_arguments *arguments,
                        struct eo_failure *failure)
{
    int64_t number = 0;

    if (strcmp(option, "--engine") == 0) {
        return parse_engine(value, &arguments->engine, failure);
    }
    if (strcmp(option, "--library") == 0) {
        arguments->open.library = value;
        return 0;
    }
    if (arguments->command == EO_INFO) {
        return eo_fail(failure, option, "unknown option of info (known: --engine, --library)");
    }
    if (strcmp(option, "--model") == 0) {
        arguments->open.model = value;
        return 0;
    }
    if (strcmp(option, "--threads") == 0) {
        if (parse_integer(option, value, 1, 1024, &number, failure) != 0) {
            return -1;
        }
        arguments->open.threads = (int32_t)number;
        return 0;
    }
    if (strcmp(option, "--warmup") == 0) {
        return parse_integer(option, value, 0, 1000000000, &arguments->warmup, failure);
    }
    if (strcmp(option, "--runs") == 0) {
        return parse_integer(option, value, 0, 1000000000, &arguments->runs, failure);
    }
    if (strcmp(option, "--cosine-min") == 0) {
        return parse_cosine(value, &arguments->cosine_min, failure);
    }
    if (strcmp(option, "--golden") == 0) {
        if (arguments->golden_count == EO_MAX_GOLDENS) {
            return eo_fail(failure, option, "given more than %d times", EO_MAX_GOLDENS);
        }
        arguments->goldens[arguments->golden_count++] = value;
        return 0;
    }
    if (strcmp(option, "--input") == 0) {
        return parse_pair(option, value, arguments->inputs, EO_MAX_TENSORS, &arguments->input_count,
                          failure);
    }
    if (strcmp(option, "--output") == 0) {
        return parse_pair(option, value, arguments->outputs, EO_MAX_TENSORS,
                          &arguments->output_count, failure);
    }
    if (strcmp(option, "--option") == 0) {
        return parse_pair(option, value, arguments->options, EO_MAX_OPTIONS,
                          &arguments->open.option_count, failure);
    }
    return eo_fail(failure, option, "unknown option; edgeopt-agent --help lists them");
}

static int require(const struct eo_arguments *arguments, struct eo_failure *failure)
{
    if (arguments->command == EO_INFO) {
        if ((arguments->engine == NULL) != (arguments->open.library == NULL)) {
            return eo_fail(failure, "info", "--engine and --library go together");
        }
        return 0;
    }
    if (arguments->engine == NULL) {
        return eo_fail(failure, "--engine", "is missing");
    }
    if (arguments->open.library == NULL) {
        return eo_fail(failure, "--library", "is missing");
    }
    if (arguments->open.model == NULL) {
        return eo_fail(failure, "--model", "is missing");
    }
    if (arguments->golden_count == 0) {
        return eo_fail(failure, "--golden", "is missing: the first one is what is timed");
    }
    return 0;
}

int eo_parse(int argc, char **argv, struct eo_arguments *arguments, struct eo_failure *failure)
{
    memset(arguments, 0, sizeof *arguments);
    arguments->open.options = arguments->options;
    arguments->open.threads = 1;
    arguments->warmup = 5;
    arguments->runs = 50;
    arguments->cosine_min = 0.99;
    if (argc < 2) {
        return eo_fail(failure, "arguments", "no command; edgeopt-agent --help lists them");
    }
    if (strcmp(argv[1], "--version") == 0) {
        arguments->command = EO_VERSION;
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0) {
        arguments->command = EO_HELP;
        return 0;
    }
    if (strcmp(argv[1], "run") == 0) {
        arguments->command = EO_RUN;
    } else if (strcmp(argv[1], "info") == 0) {
        arguments->command = EO_INFO;
    } else {
        return eo_fail(failure, argv[1], "unknown command (known: run, info, --version, --help)");
    }
    for (int i = 2; i < argc; i += 2) {
        if (i + 1 == argc) {
            return eo_fail(failure, argv[i], "needs a value, or is unknown");
        }
        if (parse_option(argv[i], argv[i + 1], arguments, failure) != 0) {
            return -1;
        }
    }
    return require(arguments, failure);
}
