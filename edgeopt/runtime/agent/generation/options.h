/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The options that generating has besides those of arguments.h. */
#ifndef EO_GENERATE_OPTIONS_H
#define EO_GENERATE_OPTIONS_H

#include "base/failure.h"

struct eo_generate_options {
    int32_t context;    /* tokens of prompt and answer at most; 0: as the bundle was made for */
    int32_t new_tokens; /* of each answer */
    int32_t beams;      /* that a prompt may ask for; 0: as many as the bundle says */
};

extern const char eo_generate_usage[];

/* Reads --context, --new-tokens and --beams, and takes them out of `argv`. */
int eo_generate_parse(int *argc, char **argv, struct eo_generate_options *options,
                      struct eo_failure *failure);

#endif
