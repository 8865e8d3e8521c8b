/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "golden_calls.h"

#include "clock.h"
#include "compare.h"
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Emits one golden event; returns whether the output agrees. */
static bool compare_output(const struct eo_job *job, const struct eo_golden *golden, uint32_t index)
{
    const struct eo_tensor *expected = &golden->outputs[index];
    const struct eo_tensor *got = eo_session_output(job->session, index);
    struct eo_agreement agreement =
        eo_compare(got, expected, eo_golden_mask(golden, job->session));
    bool agrees = agreement.cosine >= job->session->entry->bound; /* false for NaN */

    eo_events_begin(job->events, "golden");
    eo_events_text(job->events, "directory", golden->directory);
    eo_events_text(job->events, "output", eo_session_output_name(job->session, index));
    eo_events_number(job->events, "cosine", agreement.cosine);
    eo_events_number(job->events, "max_abs_error", agreement.max_abs_error);
    eo_events_bool(job->events, "agrees", agrees);
    if (!agreement.same_shape) {
        char found[128], wanted[128], reason[320];
        eo_shape_text(got, found, sizeof found);
        eo_shape_text(expected, wanted, sizeof wanted);
        if (snprintf(reason, sizeof reason, "shape %s, expected %s", found, wanted) > 0) {
            eo_events_text(job->events, "reason", reason);
        }
    } else if (!(agreement.cosine == agreement.cosine)) {
        eo_events_text(job->events, "reason", "NaN or infinity");
    }
    eo_events_end(job->events);
    return agrees;
}

/* Runs the session; of its first run ever it says how long that took. */
static int run_golden(struct eo_job *job, struct eo_failure *failure)
{
    int64_t begin_ns = eo_clock_wall_ns();
    int result = eo_session_run(job->session, failure);

    if (result == EO_OK && !job->has_run) {
        eo_events_begin(job->events, "first");
        eo_events_integer(job->events, "wall_ns", eo_clock_wall_ns() - begin_ns);
        eo_events_end(job->events);
    }
    job->has_run = true;
    return result;
}

static int check_golden(struct eo_job *job, const struct eo_golden *golden, bool *agree,
                        struct eo_failure *failure)
{
    int result = eo_golden_fill(golden, job->session, failure);

    if (result == EO_OK) {
        result = run_golden(job, failure);
    }
    for (uint32_t i = 0; result == EO_OK && i < eo_session_output_count(job->session); i++) {
        *agree = compare_output(job, golden, i) && *agree;
    }
    return result == EO_OK ? eo_job_reader_gone(job, failure) : result;
}

static bool is_timed(const struct eo_job *job, const struct eo_golden_entry *entry, int32_t seq_len)
{
    return entry->seq_len == seq_len && strcmp(entry->graph, job->session->manifest->graph) == 0;
}

int eo_golden_calls_check(struct eo_job *job, bool begins, bool *agree, struct eo_failure *failure)
{
    const struct eo_manifest *manifest = job->session->manifest;
    int32_t seq_len = job->arguments->seq_len;
    struct eo_golden *golden = malloc(sizeof *golden);
    uint32_t count = 0, seen = 0;
    int result = EO_OK;

    if (golden == NULL) {
        return eo_fail(failure, EO_ENOMEM, "goldens", "no memory");
    }
    for (uint32_t i = 0; job->arguments->seq_len == 0 && i < manifest->golden_count; i++) {
        int32_t len = manifest->goldens[i].seq_len;
        seq_len = len <= job->session->max_seq_len && len > seq_len ? len : seq_len;
    }
    for (uint32_t i = 0; i < manifest->golden_count; i++) {
        count += is_timed(job, &manifest->goldens[i], seq_len);
    }
    for (uint32_t i = manifest->golden_count; result == EO_OK && i > 0; i--) {
        const struct eo_golden_entry *entry = &manifest->goldens[i - 1];
        bool is_last = seen == 0;
        if (!is_timed(job, entry, seq_len)) {
            continue;
        }
        seen++;
        if (begins ? is_last : !is_last || count == 1) {
            result = eo_golden_open(job->bundle, manifest, entry->directory, golden, failure);
            if (result == EO_OK) {
                result = begins || count > 1 ? check_golden(job, golden, agree, failure)
                                             : eo_golden_fill(golden, job->session, failure);
            }
            eo_golden_close(golden);
        }
    }
    free(golden);
    if (result == EO_OK && count == 0) {
        return eo_fail(failure, EO_EINPUT, "--seq-len",
                       "the bundle has no golden call of %d tokens", (int)seq_len);
    }
    return result;
}
