/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Writes one JSON object a line to a file descriptor, without allocating. */
#ifndef EO_EVENTS_H
#define EO_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EO_SILENCE_S 60 /* a host that neither writes nor reads for so long is gone */

#define EO_EVENTS_BYTES 4096 /* what a pipe takes whole: PIPE_BUF of Linux, pipe(7) */

struct eo_events {
    int descriptor;
    bool broken; /* a write failed: nobody listens any more */
    bool held;   /* events are kept until eo_events_send, or there is no more room */
    bool first;  /* no comma before the next member or item */
    size_t used;
    char buffer[EO_EVENTS_BYTES];
};

void eo_events_open(struct eo_events *events, int descriptor);

/* Begin and end an event; the end writes it out. Between them come members in any number. */
void eo_events_begin(struct eo_events *events, const char *event);
void eo_events_end(struct eo_events *events);
void eo_events_send(struct eo_events *events);

/* Bytes that are not UTF-8 become U+FFFD; control characters are escaped. */
void eo_events_text(struct eo_events *events, const char *name, const char *value);
void eo_events_text_bytes(struct eo_events *events, const char *name, const char *value, size_t bytes);
void eo_events_integer(struct eo_events *events, const char *name, int64_t value);
/* The members begin_ns and end_ns. */
void eo_events_span(struct eo_events *events, int64_t begin_ns, int64_t end_ns);
/* NaN and infinities, which JSON has not, become null. */
void eo_events_number(struct eo_events *events, const char *name, double value);
void eo_events_bool(struct eo_events *events, const char *name, bool value);
void eo_events_integers(struct eo_events *events, const char *name, const int64_t *values, size_t count);
void eo_events_numbers(struct eo_events *events, const char *name, const float *values, size_t count);
/* Blank-separated words of `words` as an array of strings. */
void eo_events_words(struct eo_events *events, const char *name, const char *words);

/* True if the reader is gone: a write failed, or the descriptor says so. */
bool eo_events_is_broken(struct eo_events *events);

#endif
