/* The agent's command line. */
#ifndef EO_ARGUMENTS_H
#define EO_ARGUMENTS_H

#include "engine.h"

#include <stdbool.h>

#define EO_MAX_GOLDENS 256
#define EO_MAX_OPTIONS 32

enum eo_command { EO_RUN, EO_INFO, EO_VERSION, EO_HELP };

/* Pointers are into argv, which is cut at '=' where an argument is KEY=VALUE. */
struct eo_arguments {
    enum eo_command command;
    const struct eo_engine *engine; /* NULL: not given */
    struct eo_open open;
    struct eo_option options[EO_MAX_OPTIONS];
    struct eo_option inputs[EO_MAX_TENSORS]; /* key: the model's name, value: the artifact's */
    size_t input_count;
    struct eo_option outputs[EO_MAX_TENSORS];
    size_t output_count;
    const char *goldens[EO_MAX_GOLDENS];
    size_t golden_count;
    int64_t warmup;
    int64_t runs;
    double cosine_min;
};

extern const char eo_usage[];

int eo_parse(int argc, char **argv, struct eo_arguments *arguments, struct eo_failure *failure);

#endif
