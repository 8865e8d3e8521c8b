/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "golden_calls.h"

#include "clock.h"
#include "compare.h"
#include "golden.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Emits one golden event, of a row of the output; returns whether it agrees. */
static bool compare_output(const struct eo_job *job, const struct eo_golden *golden, uint32_t index,
                           uint32_t row)
{
    const struct eo_tensor *expected = &golden->outputs[index];
    struct eo_tensor got = *eo_session_output(job->session, index);
    struct eo_agreement agreement;
    bool agrees;

    eo_golden_row(job->session, row, &got);
    agreement = eo_compare(&got, expected, eo_golden_mask(golden, job->session));
    agrees = agreement.cosine >= job->session->entry->bound; /* false for NaN */
    eo_events_begin(job->events, "golden");
    eo_events_text(job->events, "directory", golden->directory);
    eo_events_text(job->events, "output", eo_session_output_name(job->session, index));
    eo_events_number(job->events, "cosine", agreement.cosine);
    eo_events_number(job->events, "max_abs_error", agreement.max_abs_error);
    eo_events_bool(job->events, "agrees", agrees);
    if (!agreement.same_shape) {
        char found[128], wanted[128], reason[320];
        eo_shape_text(&got, found, sizeof found);
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

/* What is done with a golden call. */
enum { FILL = 1, RUN = 2, COMPARE = 4 };

/* Reads the call of `entry` and does `what` with it, as row `row` of `batch`. */
static int visit(struct eo_job *job, const struct eo_golden_entry *entry, unsigned what,
                 uint32_t batch, uint32_t row, bool *agree, struct eo_failure *failure)
{
    struct eo_golden *golden = malloc(sizeof *golden);
    int result;

    if (golden == NULL) {
        return eo_fail(failure, EO_ENOMEM, "goldens", "no memory");
    }
    result = eo_golden_open(job->bundle, job->session->manifest, entry->directory, golden, failure);
    if (result == EO_OK && what & FILL) {
        result = eo_golden_fill(golden, job->session, batch, row, failure);
    }
    if (result == EO_OK && what & RUN) {
        result = run_golden(job, failure);
    }
    if (result == EO_OK && what & COMPARE) {
        for (uint32_t i = 0; i < eo_session_output_count(job->session); i++) {
            *agree = compare_output(job, golden, i, row) && *agree;
        }
        result = eo_job_reader_gone(job, failure);
    }
    eo_golden_close(golden);
    free(golden);
    return result;
}

/* Returns how many golden calls there are of the length that is timed: the one asked for, or the
 * longest that is golden. The one with number `number` is in `found`. */
static uint32_t timed(const struct eo_job *job, uint32_t number, const struct eo_golden_entry **found)
{
    const struct eo_manifest *manifest = job->session->manifest;
    int32_t seq_len = job->arguments->seq_len;
    uint32_t count = 0;

    for (uint32_t i = 0; job->arguments->seq_len == 0 && i < manifest->golden_count; i++) {
        int32_t len = manifest->goldens[i].seq_len;
        seq_len = len <= job->session->max_seq_len && len > seq_len ? len : seq_len;
    }
    for (uint32_t i = 0; i < manifest->golden_count; i++) {
        const struct eo_golden_entry *entry = &manifest->goldens[i];
        if (entry->seq_len == seq_len && strcmp(entry->graph, manifest->graph) == 0) {
            *found = count++ == number ? entry : *found;
        }
    }
    return count;
}

int eo_golden_calls_check(struct eo_job *job, bool begins, bool *agree, struct eo_failure *failure)
{
    const struct eo_golden_entry *entry = NULL;
    const uint32_t count = timed(job, 0, &entry);
    const uint32_t end = begins || count < 2 ? count : count - 1;
    const uint32_t begin = begins ? end - 1 : 0;
    int result = EO_OK;

    if (count == 0) {
        return eo_fail(failure, EO_EINPUT, "--seq-len",
                       "the bundle has no golden call of %d tokens", (int)job->arguments->seq_len);
    }
    for (uint32_t i = end; result == EO_OK && i > begin; i--) {
        (void)timed(job, i - 1, &entry);
        result = visit(job, entry, begins || count > 1 ? FILL | RUN | COMPARE : FILL, 1, 0, agree,
                       failure);
    }
    return result;
}

int eo_golden_batch_check(struct eo_job *job, bool *agree, struct eo_failure *failure)
{
    const struct eo_golden_entry *entry = NULL;
    const uint32_t batch = job->session->max_batch;
    const uint32_t count = timed(job, 0, &entry);
    int result = EO_OK;

    for (uint32_t i = 0; result == EO_OK && i < 2 * batch; i++) {
        const uint32_t row = i < batch ? i : i - batch;
        (void)timed(job, row % count, &entry);
        result = visit(job, entry, i >= batch ? COMPARE : i == batch - 1 ? FILL | RUN : FILL, batch,
                       row, agree, failure);
    }
    return result;
}
