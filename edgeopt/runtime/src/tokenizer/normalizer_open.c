/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_reader.h"

#include <stdio.h>
#include <stdlib.h>

#define MAX_GROWTH 18U /* of known ones 6; what grows more is refused when it is encoded */

/* Adds a step that makes up to `growth` characters of one byte. */
static int add_step(const struct eo_reader *reader, const char *path,
                    struct eo_normalizer_step step, uint32_t growth)
{
    struct eo_normalizer *normalizer = &reader->tokenizer->normalizer;

    if (normalizer->count == EO_MAX_NORMALIZERS) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "%s is one of more than %d steps, supported: up to that", path,
                       EO_MAX_NORMALIZERS);
    }
    step.growth = (uint8_t)(growth < MAX_GROWTH ? growth : MAX_GROWTH);
    normalizer->steps[normalizer->count++] = step;
    return EO_OK;
}

static int read_bert(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "clean_text", "handle_chinese_chars",
                                       "strip_accents", "lowercase"};
    bool flags[4] = {false}, strips;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "clean_text", &flags[0]);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "handle_chinese_chars", &flags[1]);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "lowercase", &flags[3]);
    }
    strips = flags[3];
    if (result == EO_OK) {
        result = eo_read_optional_bool(reader, node, path, "strip_accents", &strips);
    }
    flags[2] = strips;
    for (uint32_t i = 0; i < LENGTH(flags) && result == EO_OK; i++) {
        static const uint8_t kinds[] = {EO_CLEAN, EO_SPACE_IDEOGRAPHS, EO_DROP_ACCENTS,
                                        EO_LOWERCASE};
        if (flags[i] && kinds[i] == EO_DROP_ACCENTS) {
            result = add_step(reader, path, (struct eo_normalizer_step){.kind = EO_NFD},
                              EO_FORM_GROWTH);
        }
        if (flags[i] && result == EO_OK) {
            result = add_step(reader, path, (struct eo_normalizer_step){.kind = kinds[i]}, 1);
        }
    }
    return result;
}

static int read_strip(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "strip_left", "strip_right"};
    struct eo_normalizer_step step = {.kind = EO_STRIP};
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "strip_left", &step.left);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "strip_right", &step.right);
    }
    return result == EO_OK ? add_step(reader, path, step, 1) : result;
}

static int read_replace(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "pattern", "content"};
    struct eo_normalizer_step step = {.kind = EO_REPLACE};
    const struct eo_pattern *pattern = &step.pattern;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));
    uint32_t least;

    if (result == EO_OK) {
        result = eo_read_pattern(reader, node, path, &step.pattern);
    }
    if (result == EO_OK && pattern->kind != EO_LITERAL && pattern->kind != EO_RUN) {
        char key[MAX_KEY];
        uint32_t found = eo_read_member(reader, node, path, "pattern", key);
        return eo_read_unsupported(reader, key, found, "one that is no splitter's");
    }
    if (result == EO_OK) {
        result = eo_read_codes(reader, node, path, "content", &step.content, &step.content_count);
    }
    if (result != EO_OK) {
        return result;
    }
    least = pattern->kind == EO_LITERAL   ? pattern->count
            : pattern->other != EO_NO_CLASS ? 1
                                            : pattern->least;
    return add_step(reader, path, step, (step.content_count + least - 1) / least);
}

static int read_prepend(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "prepend"};
    struct eo_normalizer_step step = {.kind = EO_PREPEND};
    struct eo_normalizer *normalizer = &reader->tokenizer->normalizer;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = eo_read_codes(reader, node, path, "prepend", &step.content, &step.content_count);
    }
    if (result == EO_OK && (step.content_count == 0 || step.content_count > 256)) {
        char key[MAX_KEY];
        uint32_t found = eo_read_member(reader, node, path, "prepend", key);
        return eo_read_unsupported(reader, key, found, "1 to 256 characters");
    }
    normalizer->extra += step.content_count;
    return result == EO_OK ? add_step(reader, path, step, 1) : result;
}

static int read_precompiled(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "precompiled_charsmap"};
    struct eo_charsmap *map = &reader->tokenizer->normalizer.charsmap;
    char key[MAX_KEY], *text;
    uint32_t found = eo_read_member(reader, node, path, "precompiled_charsmap", key), growth;
    size_t size;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result != EO_OK) {
        return result;
    }
    if (map->bytes != NULL) {
        return eo_read_unsupported(reader, key, found, "one map");
    }
    if (found == 0 || eo_read_node(reader, found)->type != EO_JSON_STRING) {
        return eo_read_damaged(reader, key, found, "a map of characters in Base64");
    }
    size = eo_read_node(reader, found)->end - eo_read_node(reader, found)->begin + 1;
    text = malloc(size);
    if (text == NULL) {
        return eo_read_no_memory(reader);
    }
    size = (size_t)eo_json_string(&reader->tree, found, text, size);
    if (!eo_charsmap_open(map, text, size)) {
        return eo_read_damaged(reader, key, found, "a map of characters in Base64");
    }
    growth = eo_charsmap_growth(map);
    return growth == 0 ? eo_read_no_memory(reader)
                       : add_step(reader, path,
                                  (struct eo_normalizer_step){.kind = EO_PRECOMPILED}, growth);
}

/* One that has no options. */
static int read_plain(const struct eo_reader *reader, uint32_t node, const char *path, uint8_t kind)
{
    static const char *const keys[] = {"type"};
    struct eo_normalizer *normalizer = &reader->tokenizer->normalizer;
    bool compatible = kind == EO_NFKC || kind == EO_NFKD;
    bool composes = kind == EO_NFC || kind == EO_NFKC;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK && composes && normalizer->compositions == NULL) {
        normalizer->compositions = eo_compositions_open();
        result = normalizer->compositions == NULL ? eo_read_no_memory(reader) : EO_OK;
    }
    return result == EO_OK ? add_step(reader, path, (struct eo_normalizer_step){.kind = kind},
                                      compatible                      ? EO_COMPATIBLE_GROWTH
                                      : composes || kind == EO_NFD ? EO_FORM_GROWTH
                                                                      : 1)
                           : result;
}

static int read_one(const struct eo_reader *reader, uint32_t node, const char *path);

/* The depth of sequences in each other is limited as that of JSON is. */
static int read_sequence(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "normalizers"};
    const struct eo_json_node *nodes = reader->tree.nodes;
    char key[MAX_KEY], inner[MAX_KEY + 16];
    uint32_t list = eo_read_member(reader, node, path, "normalizers", key), index = 0;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK && (list == 0 || nodes[list].type != EO_JSON_ARRAY)) {
        return eo_read_damaged(reader, key, list, "an array");
    }
    for (uint32_t i = list + 1; i < nodes[list].next && result == EO_OK; i = nodes[i].next) {
        (void)snprintf(inner, sizeof inner, "%s[%u]", key, (unsigned)index++);
        result = read_one(reader, i, inner);
    }
    return result;
}

static int read_one(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const struct {
        const char *type;
        uint8_t kind;
    } plain[] = {{"NFC", EO_NFC},
                 {"NFD", EO_NFD},
                 {"NFKC", EO_NFKC},
                 {"NFKD", EO_NFKD},
                 {"Nmt", EO_NMT},
                 {"Lowercase", EO_LOWERCASE},
                 {"StripAccents", EO_DROP_MARKS}};
    static const struct {
        const char *type;
        int (*read)(const struct eo_reader *, uint32_t, const char *);
    } others[] = {{"BertNormalizer", read_bert}, {"Precompiled", read_precompiled},
                  {"Replace", read_replace},     {"Prepend", read_prepend},
                  {"Strip", read_strip},         {"Sequence", read_sequence}};
    char key[MAX_KEY];
    uint32_t type = eo_read_member(reader, node, path, "type", key);

    for (size_t i = 0; i < LENGTH(plain); i++) {
        if (eo_json_is(&reader->tree, type, plain[i].type)) {
            return read_plain(reader, node, path, plain[i].kind);
        }
    }
    for (size_t i = 0; i < LENGTH(others); i++) {
        if (eo_json_is(&reader->tree, type, others[i].type)) {
            return others[i].read(reader, node, path);
        }
    }
    return eo_read_unsupported(reader, key, type,
                               "BertNormalizer, Lowercase, NFC, NFD, NFKC, NFKD, Nmt, Precompiled, "
                               "Prepend, Replace, Strip, StripAccents, Sequence, or null");
}

/* What is decomposed once is not so again; what is replaced may have been. */
static uint32_t growth_of(const struct eo_normalizer *normalizer)
{
    uint32_t decomposed = 1, replaced = 1;

    for (uint32_t i = 0; i < normalizer->count; i++) {
        const struct eo_normalizer_step *step = &normalizer->steps[i];
        if (step->kind != EO_REPLACE) {
            decomposed = step->growth > decomposed ? step->growth : decomposed;
        } else if (step->growth > 1 && replaced < MAX_GROWTH) {
            replaced *= step->growth;
        }
    }
    return decomposed * replaced < MAX_GROWTH ? decomposed * replaced : MAX_GROWTH;
}

int eo_read_normalizer(const struct eo_reader *reader, uint32_t node)
{
    struct eo_normalizer *normalizer = &reader->tokenizer->normalizer;
    int result = eo_read_is_null(reader, node) ? EO_OK : read_one(reader, node, "normalizer");

    normalizer->growth = growth_of(normalizer);
    return result;
}
