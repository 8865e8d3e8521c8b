/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "events.h"

#include "base/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void eo_events_send(struct eo_events *events)
{
    struct pollfd room = {.fd = events->descriptor, .events = POLLOUT, .revents = 0};
    size_t done = 0;

    while (done < events->used && !events->broken) {
        ssize_t wrote = 0; /* a reader that takes nothing for so long is gone: its link stalls */
        if (poll(&room, 1, EO_SILENCE_S * 1000) != 0) {
            wrote = write(events->descriptor, events->buffer + done, events->used - done);
        }
        if (wrote > 0) {
            done += (size_t)wrote;
        } else if (wrote == 0 || errno != EINTR) {
            events->broken = true;
        }
    }
    events->used = 0;
}

static void put(struct eo_events *events, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (events->used == sizeof events->buffer) {
            eo_events_send(events);
        }
        events->buffer[events->used++] = bytes[i];
    }
}

static void put_text(struct eo_events *events, const char *text)
{
    put(events, text, strlen(text));
}

static void put_string(struct eo_events *events, const char *value, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)value;
    const unsigned char *end = at + bytes;

    put(events, "\"", 1);
    while (at < end) {
        uint32_t length = eo_utf8_bytes(at, (size_t)(end - at));
        char escape[8];

        if (length == 0) {
            put_text(events, "\\ufffd");
            at++;
        } else if (*at == '"' || *at == '\\') {
            escape[0] = '\\';
            escape[1] = (char)*at++;
            put(events, escape, 2);
        } else if (*at < 0x20 || *at == 0x7F) {
            if (snprintf(escape, sizeof escape, "\\u%04x", *at++) == 6) {
                put(events, escape, 6);
            }
        } else {
            put(events, (const char *)at, length);
            at += length;
        }
    }
    put(events, "\"", 1);
}

static void put_integer(struct eo_events *events, int64_t value)
{
    char text[24];

    if (snprintf(text, sizeof text, "%" PRId64, value) > 0) {
        put_text(events, text);
    }
}

/* With as many digits as bring the same number back. */
static void put_number(struct eo_events *events, double value, int digits)
{
    char text[40];

    if (!isfinite(value) || snprintf(text, sizeof text, "%.*g", digits, value) <= 0) {
        put_text(events, "null");
    } else {
        put_text(events, text); /* no setlocale here: the decimal point is a point */
    }
}

static void separate(struct eo_events *events)
{
    if (!events->first) {
        put(events, ",", 1);
    }
    events->first = false;
}

static void put_name(struct eo_events *events, const char *name)
{
    separate(events);
    put_string(events, name, strlen(name));
    put(events, ":", 1);
}

void eo_events_open(struct eo_events *events, int descriptor)
{
    events->descriptor = descriptor;
    events->broken = false;
    events->held = false;
    events->first = true;
    events->used = 0;
}

void eo_events_begin(struct eo_events *events, const char *event)
{
    put(events, "{", 1);
    events->first = true;
    eo_events_text(events, "event", event);
}

void eo_events_end(struct eo_events *events)
{
    put(events, "}\n", 2);
    if (!events->held) {
        eo_events_send(events);
    }
}

void eo_events_text(struct eo_events *events, const char *name, const char *value)
{
    eo_events_text_bytes(events, name, value, strlen(value));
}

void eo_events_text_bytes(struct eo_events *events, const char *name, const char *value, size_t bytes)
{
    put_name(events, name);
    put_string(events, value, bytes);
}

void eo_events_integer(struct eo_events *events, const char *name, int64_t value)
{
    put_name(events, name);
    put_integer(events, value);
}

void eo_events_span(struct eo_events *events, int64_t begin_ns, int64_t end_ns)
{
    eo_events_integer(events, "begin_ns", begin_ns);
    eo_events_integer(events, "end_ns", end_ns);
}

void eo_events_number(struct eo_events *events, const char *name, double value)
{
    put_name(events, name);
    put_number(events, value, 17);
}

void eo_events_numbers(struct eo_events *events, const char *name, const float *values, size_t count)
{
    put_name(events, name);
    put(events, "[", 1);
    events->first = true;
    for (size_t i = 0; i < count; i++) {
        separate(events);
        put_number(events, (double)values[i], 9);
    }
    put(events, "]", 1);
    events->first = false;
}

void eo_events_bool(struct eo_events *events, const char *name, bool value)
{
    put_name(events, name);
    put_text(events, value ? "true" : "false");
}

void eo_events_integers(struct eo_events *events, const char *name, const int64_t *values, size_t count)
{
    put_name(events, name);
    put(events, "[", 1);
    events->first = true;
    for (size_t i = 0; i < count; i++) {
        separate(events);
        put_integer(events, values[i]);
    }
    put(events, "]", 1);
    events->first = false;
}

void eo_events_words(struct eo_events *events, const char *name, const char *words)
{
    put_name(events, name);
    put(events, "[", 1);
    events->first = true;
    while (*words != '\0') {
        size_t length = strcspn(words, " ");

        if (length > 0) {
            separate(events);
            put_string(events, words, length);
        }
        words += length;
        words += strspn(words, " ");
    }
    put(events, "]", 1);
    events->first = false;
}

bool eo_events_is_broken(struct eo_events *events)
{
    struct pollfd watched = {.fd = events->descriptor, .events = 0, .revents = 0};

    if (!events->broken && poll(&watched, 1, 0) > 0 &&
        (watched.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
        events->broken = true;
    }
    return events->broken;
}
