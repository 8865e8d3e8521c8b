/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* edgeopt-generation-agent: as edgeopt-agent, for bundles that generate text. It is a program of its own
 * because most boards never need it. */
#include "generation/answering.h"
#include "generation/prompts.h"
#include "program.h"

#include <stdio.h>

int main(int argc, char **argv)
{
    struct eo_arguments arguments;
    struct eo_generate_options options;
    struct eo_failure failure;
    struct eo_events events;
    struct eo_job job = {.arguments = &arguments, .events = &events};
    int result = eo_generate_parse(&argc, argv, &options, &failure);

    if (result == EO_OK) {
        result = eo_parse(argc, argv, &arguments, &failure);
    }
    if (result == EO_OK && arguments.command == EO_VERSION_ONLY) {
        return puts(EO_VERSION) < 0 || fflush(stdout) != 0 ? EXIT_FAILED : 0;
    }
    if (result == EO_OK && arguments.command == EO_HELP) {
        return fputs(eo_generate_usage, stdout) < 0 || fflush(stdout) != 0 ? EXIT_FAILED : 0;
    }
    if (result == EO_OK && arguments.command != EO_RUN && arguments.command != EO_READ &&
        arguments.command != EO_CLOCK) {
        result = eo_fail(&failure, EO_EINPUT, argv[1],
                         "unknown command; edgeopt-generation-agent --help lists them");
    }
    if (result != EO_OK) {
        eo_events_open(&events, 1);
        return eo_program_fail(&events, &failure, EXIT_ARGUMENTS);
    }
    if (!eo_program_begin(&events)) {
        return EXIT_FAILED;
    }
    eo_program_hello(&events);
    result = arguments.command == EO_CLOCK  ? eo_program_clock(&job, &failure)
             : arguments.command == EO_READ ? eo_prompts_answer(&job, &options, &failure)
                                            : eo_answering_run(&job, &options, &failure);
    eo_bundle_close(job.bundle);
    return result == EO_OK ? 0 : eo_program_fail(&events, &failure, EXIT_FAILED);
}
