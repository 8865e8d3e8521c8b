/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "generation/open.h"

#include "clock.h"
#include "process.h"

eo_sampling eo_greedy(void)
{
    eo_sampling how = EO_SAMPLING;

    how.num_beams = 1;
    how.no_repeat_ngram_size = how.min_tokens = UINT32_MAX;
    return how;
}

int eo_open_generator(struct eo_job *job, const struct eo_generate_options *options,
                      struct eo_generator **generator, struct eo_failure *failure)
{
    const eo_generator_options how = {.struct_bytes = (uint32_t)sizeof how,
                                      .context = (uint32_t)options->context,
                                      .session = &job->arguments->session,
                                      .beams = (uint32_t)options->beams};
    struct eo_events *events = job->events;
    uint64_t cache_bytes = 0;
    char cpus[128];
    int64_t begin_ns;
    int result = eo_generator_options_bytes(job->bundle, &how, &cache_bytes, failure);

    begin_ns = eo_clock_wall_ns();
    if (result == EO_OK) {
        result = eo_generator_open(job->bundle, &how, generator, failure);
    }
    if (result != EO_OK) {
        return result;
    }
    job->session = &(*generator)->session; /* whose files and engine take memory */
    eo_events_begin(events, "engine");
    eo_events_text(events, "engine", eo_generator_engine(*generator));
    eo_events_text(events, "version", eo_generator_engine_version(*generator));
    eo_events_text(events, "precision", eo_generator_precision(*generator));
    eo_events_text(events, "library", (*generator)->session.library);
    eo_events_integer(events, "load_ns", eo_clock_wall_ns() - begin_ns);
    eo_events_integer(events, "context", (int64_t)eo_generator_context(*generator));
    eo_events_integer(events, "cache_bytes", (int64_t)cache_bytes);
    eo_process_cpus(cpus, sizeof cpus);
    eo_events_text(events, "cpus", cpus);
    eo_events_end(events);
    return eo_job_reader_gone(job, failure);
}
