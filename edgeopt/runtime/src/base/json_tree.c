/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/json_tree.h"

#include "base/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_NODES (1U << 26)

struct parser {
    const char *text;
    const char *where;
    uint32_t at;
    uint32_t end;
    struct eo_json_tree *tree;
    uint32_t capacity;
    struct eo_failure *failure;
};

static int wrong(const struct parser *parser, const char *what)
{
    return eo_fail(parser->failure, EO_EBUNDLE, parser->where, "is not JSON: %s at byte %u", what,
                   (unsigned)parser->at);
}

static int add_node(struct parser *parser, uint32_t type, uint32_t *index)
{
    struct eo_json_tree *tree = parser->tree;

    if (tree->count == parser->capacity) {
        uint32_t capacity = parser->capacity == 0 ? 256 : parser->capacity * 2;
        /* The largest text could ask for 2^28 nodes, which on a 32-bit machine are 0 bytes. */
        struct eo_json_node *nodes =
            capacity > MAX_NODES ? NULL
                                 : realloc(tree->nodes, (size_t)capacity * sizeof *nodes);
        if (nodes == NULL) {
            return eo_fail(parser->failure, EO_ENOMEM, parser->where, "no memory for %u nodes",
                           (unsigned)capacity);
        }
        tree->nodes = nodes;
        parser->capacity = capacity;
    }
    *index = tree->count++;
    tree->nodes[*index] = (struct eo_json_node){.type = type, .begin = parser->at};
    return EO_OK;
}

static void skip_blanks(struct parser *parser)
{
    while (parser->at < parser->end) {
        char c = parser->text[parser->at];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') {
            return;
        }
        parser->at++;
    }
}

static bool next_is(struct parser *parser, char c)
{
    if (parser->at < parser->end && parser->text[parser->at] == c) {
        parser->at++;
        return true;
    }
    return false;
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static int parse_escape(struct parser *parser)
{
    char c = parser->at < parser->end ? parser->text[parser->at] : '\0';

    if (c != 'u') {
        if (c == '\0' || strchr("\"\\/bfnrt", c) == NULL) {
            return wrong(parser, "unknown escape");
        }
        parser->at++;
        return EO_OK;
    }
    parser->at++;
    for (int i = 0; i < 4; i++) {
        if (parser->at == parser->end || hex_value(parser->text[parser->at]) < 0) {
            return wrong(parser, "expected four hex digits");
        }
        parser->at++;
    }
    return EO_OK;
}

static int parse_string(struct parser *parser, uint32_t index)
{
    struct eo_json_node *node = &parser->tree->nodes[index];

    parser->at++; /* the quote */
    node->begin = parser->at;
    while (parser->at < parser->end) {
        unsigned char c = (unsigned char)parser->text[parser->at];
        if (c == '"') {
            node->end = parser->at++;
            node->next = index + 1;
            return EO_OK;
        }
        if (c < 0x20) {
            return wrong(parser, "control character in a string");
        }
        if (c == '\\') {
            parser->at++;
            if (parse_escape(parser) != EO_OK) {
                return EO_EBUNDLE;
            }
        } else {
            uint32_t bytes = eo_utf8_bytes((const unsigned char *)parser->text + parser->at,
                                        parser->end - parser->at);
            if (bytes == 0) {
                return wrong(parser, "broken UTF-8");
            }
            parser->at += bytes;
        }
    }
    return wrong(parser, "string without an end");
}

static bool skip_digits(struct parser *parser)
{
    uint32_t first = parser->at;

    while (parser->at < parser->end && parser->text[parser->at] >= '0' &&
           parser->text[parser->at] <= '9') {
        parser->at++;
    }
    return parser->at > first;
}

static int parse_number(struct parser *parser, uint32_t index)
{
    (void)next_is(parser, '-');
    if (!next_is(parser, '0') && !skip_digits(parser)) {
        return wrong(parser, "expected a value");
    }
    if (next_is(parser, '.') && !skip_digits(parser)) {
        return wrong(parser, "expected a digit");
    }
    if (next_is(parser, 'e') || next_is(parser, 'E')) {
        if (!next_is(parser, '-')) {
            (void)next_is(parser, '+');
        }
        if (!skip_digits(parser)) {
            return wrong(parser, "expected a digit");
        }
    }
    parser->tree->nodes[index].end = parser->at;
    parser->tree->nodes[index].next = index + 1;
    return EO_OK;
}

static int parse_word(struct parser *parser, uint32_t index, const char *word, uint32_t type)
{
    size_t bytes = strlen(word);

    if (parser->end - parser->at < bytes || memcmp(parser->text + parser->at, word, bytes) != 0) {
        return wrong(parser, "expected a value");
    }
    parser->at += (uint32_t)bytes;
    parser->tree->nodes[index].type = type;
    parser->tree->nodes[index].end = parser->at;
    parser->tree->nodes[index].next = index + 1;
    return EO_OK;
}

static int parse_value(struct parser *parser, int depth);

static int parse_key(struct parser *parser)
{
    uint32_t key;

    if (parser->at == parser->end || parser->text[parser->at] != '"') {
        return wrong(parser, "expected a key");
    }
    if (add_node(parser, EO_JSON_STRING, &key) != EO_OK) {
        return EO_ENOMEM;
    }
    if (parse_string(parser, key) != EO_OK) {
        return EO_EBUNDLE;
    }
    skip_blanks(parser);
    return next_is(parser, ':') ? EO_OK : wrong(parser, "expected ':'");
}

static int parse_items(struct parser *parser, uint32_t index, char close, int depth)
{
    bool keyed = close == '}';

    if (depth == EO_JSON_MAX_DEPTH) {
        return wrong(parser, "too deep");
    }
    parser->at++;
    skip_blanks(parser);
    if (!next_is(parser, close)) {
        do {
            int result = EO_OK;
            skip_blanks(parser);
            if (keyed) {
                result = parse_key(parser);
            }
            if (result == EO_OK) {
                result = parse_value(parser, depth + 1);
            }
            if (result != EO_OK) {
                return result;
            }
            skip_blanks(parser);
        } while (next_is(parser, ','));
        if (!next_is(parser, close)) {
            return wrong(parser, keyed ? "expected ',' or '}'" : "expected ',' or ']'");
        }
    }
    parser->tree->nodes[index].end = parser->at;
    parser->tree->nodes[index].next = parser->tree->count;
    return EO_OK;
}

static int parse_value(struct parser *parser, int depth)
{
    uint32_t index;
    char c;

    skip_blanks(parser);
    if (parser->at == parser->end) {
        return wrong(parser, "cut off");
    }
    c = parser->text[parser->at];
    if (add_node(parser,
                 c == '{'   ? EO_JSON_OBJECT
                 : c == '[' ? EO_JSON_ARRAY
                 : c == '"' ? EO_JSON_STRING
                            : EO_JSON_NUMBER,
                 &index) != EO_OK) {
        return EO_ENOMEM;
    }
    switch (c) {
    case '{':
        return parse_items(parser, index, '}', depth);
    case '[':
        return parse_items(parser, index, ']', depth);
    case '"':
        return parse_string(parser, index);
    case 't':
        return parse_word(parser, index, "true", EO_JSON_TRUE);
    case 'f':
        return parse_word(parser, index, "false", EO_JSON_FALSE);
    case 'n':
        return parse_word(parser, index, "null", EO_JSON_NULL);
    default:
        return parse_number(parser, index);
    }
}

int eo_json_parse(const char *text, size_t bytes, const char *where, struct eo_json_tree *tree,
                  struct eo_failure *failure)
{
    struct parser parser = {.text = text, .where = where, .tree = tree, .failure = failure};
    int result;

    *tree = (struct eo_json_tree){.text = text};
    if (bytes > EO_JSON_MAX_BYTES) {
        return eo_fail(failure, EO_EBUNDLE, where, "has %zu bytes, expected up to %zu", bytes,
                       EO_JSON_MAX_BYTES);
    }
    parser.end = (uint32_t)bytes;
    result = parse_value(&parser, 0);
    if (result == EO_OK) {
        skip_blanks(&parser);
        if (parser.at != parser.end) {
            result = wrong(&parser, "something after the document");
        }
    }
    return result;
}

void eo_json_free(struct eo_json_tree *tree)
{
    free(tree->nodes);
    *tree = (struct eo_json_tree){0};
}

uint32_t eo_json_member(const struct eo_json_tree *tree, uint32_t node, const char *key)
{
    if (tree->nodes[node].type != EO_JSON_OBJECT) {
        return 0;
    }
    for (uint32_t i = node + 1; i < tree->nodes[node].next; i = tree->nodes[i + 1].next) {
        if (eo_json_is(tree, i, key)) {
            return i + 1;
        }
    }
    return 0;
}

uint32_t eo_json_length(const struct eo_json_tree *tree, uint32_t node)
{
    uint32_t type = tree->nodes[node].type;
    uint32_t count = 0;

    if (type != EO_JSON_ARRAY && type != EO_JSON_OBJECT) {
        return 0;
    }
    for (uint32_t i = node + 1; i < tree->nodes[node].next; count++) {
        i = tree->nodes[type == EO_JSON_OBJECT ? i + 1 : i].next;
    }
    return count;
}

static uint32_t hex_unit(const char *at)
{
    uint32_t unit = 0;

    for (int i = 0; i < 4; i++) {
        unit = unit << 4 | (uint32_t)hex_value(at[i]);
    }
    return unit;
}

/* Decodes the escape after the backslash at `at`; returns the bytes read. The parser has checked
 * its form, and `end` that a second one is there. */
static uint32_t decode_escape(const char *at, const char *end, uint32_t *codepoint)
{
    static const char names[] = "\"\\/bfnrt";
    static const char values[] = "\"\\/\b\f\n\r\t";
    uint32_t unit;

    if (*at != 'u') {
        *codepoint = (unsigned char)values[strchr(names, *at) - names];
        return 1;
    }
    unit = hex_unit(at + 1);
    *codepoint = unit;
    if (unit >= 0xd800 && unit < 0xe000) {
        *codepoint = EO_REPLACEMENT;
        if (unit < 0xdc00 && end - at >= 11 && at[5] == '\\' && at[6] == 'u') {
            uint32_t low = hex_unit(at + 7);
            if (low >= 0xdc00 && low < 0xe000) {
                *codepoint = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
                return 11;
            }
        }
    }
    return 5;
}

/* Decodes one character at `*at` into `out` and moves on; returns its bytes. */
static uint32_t decode_one(const char **at, const char *end, char out[4])
{
    uint32_t codepoint;

    if (**at != '\\') {
        out[0] = *(*at)++;
        return 1;
    }
    (*at)++;
    *at += decode_escape(*at, end, &codepoint);
    return eo_utf8_write(codepoint, out);
}

int64_t eo_json_string(const struct eo_json_tree *tree, uint32_t node, char *out, size_t size)
{
    const struct eo_json_node *found = &tree->nodes[node];
    const char *at = tree->text + found->begin;
    const char *end = tree->text + found->end;
    size_t used = 0;

    if (found->type != EO_JSON_STRING || size == 0) {
        return -1;
    }
    while (at < end) {
        char one[4];
        uint32_t bytes = decode_one(&at, end, one);
        if (bytes >= size - used) {
            return -1;
        }
        memcpy(out + used, one, bytes);
        used += bytes;
    }
    out[used] = '\0';
    return (int64_t)used;
}

bool eo_json_is(const struct eo_json_tree *tree, uint32_t node, const char *text)
{
    const struct eo_json_node *found = &tree->nodes[node];
    const char *at = tree->text + found->begin;
    const char *end = tree->text + found->end;
    size_t left = strlen(text);

    if (found->type != EO_JSON_STRING) {
        return false;
    }
    while (at < end) {
        char one[4];
        uint32_t bytes = decode_one(&at, end, one);
        if (bytes > left || memcmp(text, one, bytes) != 0) {
            return false;
        }
        text += bytes;
        left -= bytes;
    }
    return left == 0;
}

bool eo_json_integer(const struct eo_json_tree *tree, uint32_t node, int64_t low, int64_t high,
                     int64_t *value)
{
    const struct eo_json_node *found = &tree->nodes[node];
    const char *at = tree->text + found->begin;
    const char *end = tree->text + found->end;
    bool negative = found->type == EO_JSON_NUMBER && *at == '-';
    int64_t sum = 0;

    if (found->type != EO_JSON_NUMBER) {
        return false;
    }
    for (at += negative; at < end; at++) {
        int64_t digit = *at - '0';
        if (*at < '0' || *at > '9' || sum < (INT64_MIN + digit) / 10) {
            return false;
        }
        sum = sum * 10 - digit; /* below zero, where there is one value more */
    }
    if (negative ? sum == 0 : sum == INT64_MIN) { /* some take -0 for a number with a fraction */
        return false;
    }
    *value = negative ? sum : -sum;
    return *value >= low && *value <= high;
}

/* By hand, since strtod reads the decimal sign of the app's locale; exact to some units of the last
 * place, which is all that a mean, a deviation or a bound needs. */
bool eo_json_number(const struct eo_json_tree *tree, uint32_t node, double *value)
{
    const struct eo_json_node *found = &tree->nodes[node];
    const char *at = tree->text + found->begin;
    const char *end = tree->text + found->end;
    bool negative = found->type == EO_JSON_NUMBER && *at == '-';
    bool fraction = false;
    double sum = 0;
    int32_t scale = 0, exponent = 0, sign = 1;

    if (found->type != EO_JSON_NUMBER) {
        return false;
    }
    for (at += negative; at < end && *at != 'e' && *at != 'E'; at++) {
        if (*at == '.') {
            fraction = true;
        } else if (sum < 1e17) {
            sum = sum * 10 + (*at - '0');
            scale -= fraction;
        } else {
            scale += !fraction;
        }
    }
    for (at += at < end; at < end; at++) {
        if (*at == '-') {
            sign = -1;
        } else if (*at != '+' && exponent < 10000) {
            exponent = exponent * 10 + (*at - '0');
        }
    }
    /* 0e999 is 0, not 0 times infinity. */
    *value = sum == 0 ? 0 : (negative ? -sum : sum) * pow(10, sign * exponent + scale);
    return isfinite(*value);
}
