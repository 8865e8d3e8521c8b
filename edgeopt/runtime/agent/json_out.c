#include "json_out.h"

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

/* Length of the UTF-8 sequence at `text` (RFC 3629), or 0 where there is none. */
static size_t utf8_length(const unsigned char *text)
{
    size_t length;

    if (text[0] < 0x80) {
        return 1;
    }
    if (text[0] >= 0xC2 && text[0] <= 0xDF) {
        length = 2;
    } else if (text[0] >= 0xE0 && text[0] <= 0xEF) {
        length = 3;
    } else if (text[0] >= 0xF0 && text[0] <= 0xF4) {
        length = 4;
    } else {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xC0) != 0x80) { /* also stops at the closing NUL */
            return 0;
        }
    }
    if ((text[0] == 0xE0 && text[1] < 0xA0) || (text[0] == 0xED && text[1] > 0x9F) ||
        (text[0] == 0xF0 && text[1] < 0x90) || (text[0] == 0xF4 && text[1] > 0x8F)) {
        return 0; /* overlong, surrogate, past U+10FFFF */
    }
    return length;
}

static void put_string(struct eo_json *json, const char *value)
{
    const unsigned char *at = (const unsigned char *)value;

    put(json, "\"", 1);
    while (*at != '\0') {
        size_t length = utf8_length(at);
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
    put_string(json, name);
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
    put_name(json, name);
    put_string(json, value);
}

void eo_json_integer(struct eo_json *json, const char *name, int64_t value)
{
    put_name(json, name);
    put_integer(json, value);
}

void eo_json_number(struct eo_json *json, const char *name, double value)
{
    char text[40];

    put_name(json, name);
    if (!isfinite(value) || snprintf(text, sizeof text, "%.17g", value) <= 0) {
        put_text(json, "null");
    } else {
        put_text(json, text); /* no setlocale here: the decimal point is a point */
    }
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
        char word[64];
        size_t length = strcspn(words, " ");

        if (length > 0 && length < sizeof word) {
            memcpy(word, words, length);
            word[length] = '\0';
            separate(json);
            put_string(json, word);
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
