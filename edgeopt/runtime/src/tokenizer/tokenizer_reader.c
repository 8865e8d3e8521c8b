/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_reader.h"

#include "base/utf8.h"

#include <stdio.h>
#include <string.h>

const char *eo_read_quote(const struct eo_reader *reader, uint32_t node, char out[MAX_QUOTE])
{
    const struct eo_json_node *found = &reader->tree.nodes[node];
    uint32_t quotes = found->type == EO_JSON_STRING ? 1 : 0;
    uint32_t begin = found->begin - quotes;
    uint32_t bytes = found->end + quotes - begin;
    uint32_t shown = bytes < MAX_QUOTE ? bytes : MAX_QUOTE - 4;

    while (shown < bytes && shown > 0 && (reader->tree.text[begin + shown] & 0xc0) == 0x80) {
        shown--;
    }
    for (uint32_t i = 0; i < shown; i++) {
        char c = reader->tree.text[begin + i];
        out[i] = (unsigned char)c < 0x20 ? ' ' : c;
    }
    memcpy(out + shown, shown < bytes ? "..." : "", shown < bytes ? 4 : 1);
    return out;
}

int eo_read_damaged(const struct eo_reader *reader, const char *key, uint32_t node,
                   const char *expected)
{
    char text[MAX_QUOTE];

    if (node == 0) {
        return eo_fail(reader->failure, EO_EBUNDLE, reader->where, "%s is missing, expected %s",
                       key, expected);
    }
    return eo_fail(reader->failure, EO_EBUNDLE, reader->where, "%s is %s, expected %s", key,
                   eo_read_quote(reader, node, text), expected);
}

int eo_read_unsupported(const struct eo_reader *reader, const char *key, uint32_t node,
                       const char *supported)
{
    char text[MAX_QUOTE];

    return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where, "%s is %s, supported: %s", key,
                   node == 0 ? "missing" : eo_read_quote(reader, node, text), supported);
}

int eo_read_no_memory(const struct eo_reader *reader)
{
    return eo_fail(reader->failure, EO_ENOMEM, reader->where, "no memory for the tokenizer");
}

int eo_read_crowded(const struct eo_reader *reader, const char *key)
{
    return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                   "%s falls on one place of the hash table too often", key);
}


const struct eo_json_node *eo_read_node(const struct eo_reader *reader, uint32_t node)
{
    return &reader->tree.nodes[node];
}

bool eo_read_is_null(const struct eo_reader *reader, uint32_t node)
{
    return node == 0 || eo_read_node(reader, node)->type == EO_JSON_NULL;
}

uint32_t eo_read_child(const struct eo_reader *reader, uint32_t object, const char *name)
{
    return object == 0 ? 0 : eo_json_member(&reader->tree, object, name);
}

uint32_t eo_read_member(const struct eo_reader *reader, uint32_t object, const char *path,
                       const char *name, char key[MAX_KEY])
{
    /* Of a long path the end is left out, not the name. */
    (void)snprintf(key, MAX_KEY, "%.*s.%s", MAX_KEY - 26, path, name);
    return eo_read_child(reader, object, name);
}

int eo_read_bool(const struct eo_reader *reader, uint32_t object, const char *path,
                     const char *name, bool *value)
{
    char key[MAX_KEY];
    uint32_t node = eo_read_member(reader, object, path, name, key);
    uint32_t type = eo_read_node(reader, node)->type;

    if (node == 0 || (type != EO_JSON_TRUE && type != EO_JSON_FALSE)) {
        return eo_read_damaged(reader, key, node, "true or false");
    }
    *value = type == EO_JSON_TRUE;
    return EO_OK;
}

int eo_read_optional_bool(const struct eo_reader *reader, uint32_t object, const char *path,
                              const char *name, bool *value)
{
    return eo_read_is_null(reader, eo_read_child(reader, object, name))
               ? EO_OK
               : eo_read_bool(reader, object, path, name, value);
}

int eo_read_integer(const struct eo_reader *reader, uint32_t object, const char *path,
                        const char *name, int64_t high, uint32_t *value)
{
    char key[MAX_KEY], expected[64];
    uint32_t node = eo_read_member(reader, object, path, name, key);
    int64_t number;

    if (node == 0 || !eo_json_integer(&reader->tree, node, 0, high, &number)) {
        (void)snprintf(expected, sizeof expected, "a whole number from 0 to %lld", (long long)high);
        return eo_read_damaged(reader, key, node, expected);
    }
    *value = (uint32_t)number;
    return EO_OK;
}

void eo_read_byte_ids(const struct eo_reader *reader, uint32_t ids[256])
{
    const struct eo_tokenizer *tokenizer = reader->tokenizer;

    for (uint32_t byte = 0; byte < 256; byte++) {
        char text[8];
        size_t bytes = (size_t)snprintf(text, sizeof text, "<0x%02X>", (unsigned)byte);
        ids[byte] = eo_model_token(tokenizer, eo_hash(EO_HASH_START, text, bytes), text, bytes);
    }
}

int eo_read_text(const struct eo_reader *reader, uint32_t object, const char *path,
                 const char *name, char **text, uint32_t *bytes)
{
    char key[MAX_KEY];
    uint32_t node = eo_read_member(reader, object, path, name, key);
    size_t size;

    if (node == 0 || eo_read_node(reader, node)->type != EO_JSON_STRING) {
        return eo_read_damaged(reader, key, node, "a string");
    }
    size = eo_read_node(reader, node)->end - eo_read_node(reader, node)->begin + 1;
    *text = eo_arena_take(&reader->tokenizer->arena, size, 1);
    if (*text == NULL) {
        return eo_read_no_memory(reader);
    }
    *bytes = (uint32_t)eo_json_string(&reader->tree, node, *text, size);
    return EO_OK;
}

int eo_read_codes(const struct eo_reader *reader, uint32_t object, const char *path,
                  const char *name, const uint32_t **codes, uint32_t *count)
{
    uint32_t bytes, *found;
    char *text;
    int result = eo_read_text(reader, object, path, name, &text, &bytes);

    if (result != EO_OK) {
        return result;
    }
    found = eo_arena_take(&reader->tokenizer->arena, (size_t)bytes + 1, sizeof *found);
    if (found == NULL) {
        return eo_read_no_memory(reader);
    }
    *codes = found;
    *count = 0;
    for (size_t at = 0; at < bytes;) {
        found[(*count)++] = eo_utf8_next(text, bytes, &at);
    }
    return EO_OK;
}

int eo_read_pattern(const struct eo_reader *reader, uint32_t object, const char *path,
                    struct eo_pattern *pattern)
{
    char key[MAX_KEY], inner[MAX_KEY];
    uint32_t node = eo_read_member(reader, object, path, "pattern", key);
    uint32_t regex = eo_read_child(reader, node, "Regex"), bytes;
    char *text;
    int result;

    if (regex == 0) {
        *pattern = (struct eo_pattern){.kind = EO_LITERAL};
        result = eo_read_codes(reader, node, key, "String", &pattern->codes, &pattern->count);
        if (result == EO_OK && pattern->count == 0) {
            (void)eo_read_member(reader, node, key, "String", inner);
            return eo_read_unsupported(reader, inner, eo_read_child(reader, node, "String"),
                                       "what is not empty");
        }
        return result;
    }
    result = eo_read_text(reader, node, key, "Regex", &text, &bytes);
    if (result == EO_OK && !eo_pattern_known(text, bytes, pattern)) {
        (void)eo_read_member(reader, node, key, "Regex", inner);
        return eo_read_unsupported(reader, inner, regex, "those of known tokenizers");
    }
    return result;
}

uint32_t eo_read_token(const struct eo_reader *reader, uint32_t node, char *text, size_t size)
{
    int64_t bytes = eo_json_string(&reader->tree, node, text, size);

    return bytes < 0
               ? EO_NO_TOKEN
               : eo_vocabulary_find(&reader->tokenizer->vocabulary, text, (size_t)bytes);
}

int eo_read_keys(const struct eo_reader *reader, uint32_t object, const char *path,
                     const char *const *names, size_t count)
{
    const struct eo_json_node *nodes = reader->tree.nodes;

    if (object == 0 || nodes[object].type != EO_JSON_OBJECT) {
        return eo_read_damaged(reader, path, object, "an object");
    }
    for (uint32_t i = object + 1; i < nodes[object].next; i = nodes[i + 1].next) {
        size_t known = 0;
        while (known < count && !eo_json_is(&reader->tree, i, names[known])) {
            known++;
        }
        if (known == count) {
            char text[MAX_QUOTE];
            return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                           "%s has the key %s, which is not known", path,
                           eo_read_quote(reader, i, text));
        }
    }
    return EO_OK;
}
