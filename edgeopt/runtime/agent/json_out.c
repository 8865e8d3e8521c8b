#include "json_out.h"

#include "utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void flush(struct eo_json *json)
{
    size_t done = 0;

    while (done < json->used && !json->broken) {
        ssize_t wrote = write(json->descriptor, json->buffer + done, json->used - done);
        if (wrote > 0) {
            done += (size_t)wrote;
        } else if (wrote == 0 || errno != EINTR) {
            json->broken = true;
        }
    }
    json->used = 0;
}

static void put(struct eo_json *json, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (json->used == sizeof json->buffer) {
            flush(json);
        }
        json->buffer[json->used++] = bytes[i];
    }
}

static void put_text(struct eo_json *json, const char *text)
{
    put(json, text, strlen(text));
}

static void put_string(struct eo_json *json, const char *value, size_t bytes)
{
    const unsigned char *at = (const unsigned char *)value;
    const unsigned char *end = at + bytes;

    put(json, "\"", 1);
    while (at < end) {
        uint32_t length = eo_utf8_bytes(at, (size_t)(end - at));
        char escape[8];

        if (length == 0) {
            put_text(json, "\\ufffd");
            at++;
        } else if (*at == '"' || *at == '\\') {
            escape[0] = '\\';
            escape[1] = (char)*at++;
            put(json, escape, 2);
        } else if (*at < 0x20 || *at == 0x7F) {
            if (snprintf(escape, sizeof escape, "\\u%04x", *at++) == 6) {
                put(json, escape, 6);
            }
        } else {
            put(json, (const char *)at, length);
            at += length;
        }
    }
    put(json, "\"", 1);
}

static void put_integer(struct eo_json *json, int64_t value)
{
    char text[24];

    if (snprintf(text, sizeof text, "%" PRId64, value) > 0) {
        put_text(json, text);
    }
}

/* With as many digits as bring the same number back. */
static void put_number(struct eo_json *json, double value, int digits)
{
    char text[40];

    if (!isfinite(value) || snprintf(text, sizeof text, "%.*g", digits, value) <= 0) {
        put_text(json, "null");
    } else {
        put_text(json, text); /* no setlocale here: the decimal point is a point */
    }
}

static void separate(struct eo_json *json)
{
    if (!json->first) {
        put(json, ",", 1);
    }
    json->first = false;
}

static void put_name(struct eo_json *json, const char *name)
{
    separate(json);
    put_string(json, name, strlen(name));
    put(json, ":", 1);
}

void eo_json_open(struct eo_json *json, int descriptor)
{
    json->descriptor = descriptor;
    json->broken = false;
    json->first = true;
    json->used = 0;
}

void eo_json_begin(struct eo_json *json, const char *event)
{
    put(json, "{", 1);
    json->first = true;
    eo_json_text(json, "event", event);
}

void eo_json_end(struct eo_json *json)
{
    put(json, "}\n", 2);
    flush(json);
}

void eo_json_text(struct eo_json *json, const char *name, const char *value)
{
    eo_json_text_bytes(json, name, value, strlen(value));
}

void eo_json_text_bytes(struct eo_json *json, const char *name, const char *value, size_t bytes)
{
    put_name(json, name);
    put_string(json, value, bytes);
}

void eo_json_integer(struct eo_json *json, const char *name, int64_t value)
{
    put_name(json, name);
    put_integer(json, value);
}

void eo_json_number(struct eo_json *json, const char *name, double value)
{
    put_name(json, name);
    put_number(json, value, 17);
}

void eo_json_numbers(struct eo_json *json, const char *name, const float *values, size_t count)
{
    put_name(json, name);
    put(json, "[", 1);
    json->first = true;
    for (size_t i = 0; i < count; i++) {
        separate(json);
        put_number(json, (double)values[i], 9);
    }
    put(json, "]", 1);
    json->first = false;
}

void eo_json_bool(struct eo_json *json, const char *name, bool value)
{
    put_name(json, name);
    put_text(json, value ? "true" : "false");
}

void eo_json_integers(struct eo_json *json, const char *name, const int64_t *values, size_t count)
{
    put_name(json, name);
    put(json, "[", 1);
    json->first = true;
    for (size_t i = 0; i < count; i++) {
        separate(json);
        put_integer(json, values[i]);
    }
    put(json, "]", 1);
    json->first = false;
}

void eo_json_words(struct eo_json *json, const char *name, const char *words)
{
    put_name(json, name);
    put(json, "[", 1);
    json->first = true;
    while (*words != '\0') {
        size_t length = strcspn(words, " ");

        if (length > 0) {
            separate(json);
            put_string(json, words, length);
        }
        words += length;
        words += strspn(words, " ");
    }
    put(json, "]", 1);
    json->first = false;
}

bool eo_json_is_broken(struct eo_json *json)
{
    struct pollfd watched = {.fd = json->descriptor, .events = 0, .revents = 0};

    if (!json->broken && poll(&watched, 1, 0) > 0 &&
        (watched.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
        json->broken = true;
    }
    return json->broken;
}
