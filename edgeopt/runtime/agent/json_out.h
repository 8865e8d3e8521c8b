/* Writes one JSON object a line to a file descriptor, without allocating. */
#ifndef EO_JSON_OUT_H
#define EO_JSON_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct eo_json {
    int descriptor;
    bool broken; /* a write failed: nobody listens any more */
    bool first;  /* no comma before the next member or item */
    size_t used;
    char buffer[4096];
};

void eo_json_open(struct eo_json *json, int descriptor);

/* Begin and end an event; the end writes it out. Between them come members in any number. */
void eo_json_begin(struct eo_json *json, const char *event);
void eo_json_end(struct eo_json *json);

/* Bytes that are not UTF-8 become U+FFFD; control characters are escaped. */
void eo_json_text(struct eo_json *json, const char *name, const char *value);
void eo_json_text_bytes(struct eo_json *json, const char *name, const char *value, size_t bytes);
void eo_json_integer(struct eo_json *json, const char *name, int64_t value);
/* NaN and infinities, which JSON has not, become null. */
void eo_json_number(struct eo_json *json, const char *name, double value);
void eo_json_bool(struct eo_json *json, const char *name, bool value);
void eo_json_integers(struct eo_json *json, const char *name, const int64_t *values, size_t count);
void eo_json_numbers(struct eo_json *json, const char *name, const float *values, size_t count);
/* Blank-separated words of `words` as an array of strings. */
void eo_json_words(struct eo_json *json, const char *name, const char *words);

/* True where the reader is gone: a write failed, or the descriptor says so. */
bool eo_json_is_broken(struct eo_json *json);

#endif
