/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "state_sampler.h"

#include "clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/times.h>
#include <sys/wait.h>
#include <unistd.h>

/* With each character escaped and what stands around them, the text makes one line that a pipe takes
 * whole: both processes write to it. */
enum { TEXT_BYTES = 1900, LINE_BYTES_MAX = 2 * TEXT_BYTES + 160 };
_Static_assert(LINE_BYTES_MAX <= EO_EVENTS_BYTES, "a line has to fit");

struct read_state {
    uint32_t due_ms; /* of now_ms */
    uint32_t every_ms;
    int file; /* -1: a command */
};

/* Milliseconds that begin anew after 49 days; 32-bit Arm has no instruction for longer divisions. */
static uint32_t now_ms(void)
{
    return (uint32_t)(eo_clock_wall_ns() / 1000000);
}

static ssize_t read_command(const char *line, char *text)
{
    FILE *pipe = popen(line, "re");
    size_t bytes;

    if (pipe == NULL) {
        return -1;
    }
    bytes = fread(text, 1, TEXT_BYTES, pipe);
    if (pclose(pipe) != 0) {
        errno = ENOEXEC; /* it failed, or had more to say */
        return -1;
    }
    return (ssize_t)bytes;
}

static void read_one(struct eo_events *events, uint32_t place, const char *what, int file)
{
    char text[TEXT_BYTES];
    int64_t begin_ns = eo_clock_wall_ns();
    ssize_t bytes = file < 0 ? read_command(what, text) : pread(file, text, TEXT_BYTES, 0);
    int64_t end_ns = eo_clock_wall_ns();

    if (events->used > EO_EVENTS_BYTES - LINE_BYTES_MAX) {
        eo_events_send(events);
    }
    eo_events_begin(events, "read");
    eo_events_integer(events, "source", place);
    eo_events_span(events, begin_ns, end_ns);
    if (bytes < 0) {
        eo_events_text(events, "error", strerror(errno));
    } else {
        for (ssize_t i = 0; i < bytes; i++) {
            text[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7F ? ' ' : text[i];
        }
        eo_events_text_bytes(events, "text", text, (size_t)bytes);
    }
    eo_events_end(events);
}

/* CPU time of the commands that ended. A tick is 10 ms on all our architectures: times(2). */
static int64_t commands_cpu_ns(void)
{
    struct tms used = {0};

    (void)times(&used);
    return INT64_C(10000000) * (used.tms_cutime + used.tms_cstime);
}

/* Reads until `tether` has ended, and all once more: what was measured lies between two reads. */
static void sample(struct eo_events *events, const struct eo_option *reads, struct read_state *states,
                   uint32_t count, int tether)
{
    struct pollfd ended = {.fd = tether, .events = POLLIN};
    const int64_t begin_ns = eo_clock_wall_ns();
    uint32_t sent_ms = now_ms();
    uint32_t wait_ms = 0;
    uint32_t chance = 1;
    bool last = false;

    events->held = true;
    while (!last && !events->broken) {
        uint32_t begin_ms;

        last = poll(&ended, 1, (int)wait_ms) != 0;
        begin_ms = now_ms();
        chance = chance * 1103515245 + 12345; /* of the C standard's example of rand */
        wait_ms = 1000;
        for (uint32_t i = 0; i < count; i++) {
            struct read_state *state = &states[i];
            if (last || (int32_t)(begin_ms - state->due_ms) >= 0) {
                read_one(events, i, reads[i].value, state->file);
                /* From half to one and a half intervals later: what is measured may have a beat of
                 * its own, which equal distances would always meet at the same place. Those of one
                 * interval stay together, as voltage and current have to. */
                state->due_ms = begin_ms + state->every_ms / 2 + (chance >> 8) % state->every_ms;
            }
            if (state->due_ms - begin_ms < wait_ms) {
                wait_ms = state->due_ms - begin_ms;
            }
        }
        if (begin_ms - sent_ms >= 1000) {
            eo_events_send(events);
            sent_ms = begin_ms;
        }
    }
    events->held = false;
    eo_events_send(events);
    eo_events_begin(events, "sampler");
    eo_events_span(events, begin_ns, eo_clock_wall_ns());
    eo_events_integer(events, "cpu_ns", eo_clock_cpu_ns() + commands_cpu_ns());
    eo_events_end(events);
}

int eo_state_sampler_start(struct eo_state_sampler *sampler, const struct eo_option *reads, uint32_t count,
                     const struct eo_events *events, struct eo_failure *failure)
{
    struct read_state states[EO_MAX_READS];
    struct eo_events own;
    int ends[2];
    const uint32_t begin_ms = now_ms();

    for (uint32_t i = 0; i < count; i++) {
        const char *what = reads[i].value;
        states[i].every_ms = (uint32_t)strtol(reads[i].key, NULL, 10);
        states[i].due_ms = begin_ms;
        states[i].file = *what == '/' ? open(what, O_RDONLY | O_CLOEXEC) : -1;
        if (states[i].every_ms == 0 || (*what == '/' && states[i].file < 0)) {
            return eo_fail(failure, EO_EIO, what, "cannot be read every %s ms", reads[i].key);
        }
    }
    if (pipe2(ends, O_CLOEXEC) != 0 || (sampler->process = fork()) < 0) {
        return eo_fail(failure, EO_EIO, "sampler", "no process");
    }
    if (sampler->process == 0) {
        (void)close(ends[1]);
        eo_events_open(&own, events->descriptor);
        sample(&own, reads, states, count, ends[0]);
        _exit(0);
    }
    sampler->tether = ends[1];
    return EO_OK;
}

void eo_state_sampler_stop(struct eo_state_sampler *sampler)
{
    if (sampler->process > 0) {
        (void)close(sampler->tether);
        (void)waitpid(sampler->process, NULL, 0);
        sampler->process = 0;
    }
}
