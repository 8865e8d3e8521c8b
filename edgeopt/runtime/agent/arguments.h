/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* The agent's command line. */
#ifndef EO_ARGUMENTS_H
#define EO_ARGUMENTS_H

#include "base/failure.h"
#include "state_sampler.h"

#define EO_MAX_OPTIONS 32

enum eo_command {
    EO_RUN,
    EO_BLOCKS,
    EO_TEXTS,
    EO_OPERATORS,
    EO_READ,
    EO_TOKENS,
    EO_INFO,
    EO_CLOCK,
    EO_VERSION_ONLY,
    EO_HELP
};

/* Pointers are into argv, which is cut at '=' if an argument is KEY=VALUE. */
struct eo_arguments {
    enum eo_command command;
    const char *bundle;
    struct eo_session_options session; /* options points at `options` */
    struct eo_option options[EO_MAX_OPTIONS];
    int32_t seq_len; /* of the goldens; 0: the longest that the artifact takes. Of tokens: the most */
    int32_t warmup;
    int32_t runs;        /* at least */
    int32_t duration_ms; /* of the timed runs, at least */
    int32_t idle_ms;     /* before the bundle is opened */
    uint32_t read_count;
    struct eo_option reads[EO_MAX_READS]; /* see state_sampler.h */
};

extern const char eo_usage[];

int eo_parse(int argc, char **argv, struct eo_arguments *arguments, struct eo_failure *failure);

#endif
