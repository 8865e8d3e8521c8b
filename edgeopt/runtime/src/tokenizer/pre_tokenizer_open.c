/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_reader.h"

#include <stdio.h>

static const struct eo_pre_tokenizer_step at_blanks = {
    .kind = EO_SPLIT,
    .pattern = {.kind = EO_RUN, .class = EO_WHITE, .least = 1, .single = true},
};
static const struct eo_pre_tokenizer_step at_signs = {
    .kind = EO_SPLIT,
    .behavior = EO_ISOLATED,
    .pattern = {.kind = EO_RUN, .class = EO_SIGN, .least = 1, .single = true},
};
static const struct eo_pre_tokenizer_step words = {
    .kind = EO_SPLIT, .invert = true, .pattern = {.kind = EO_WORDS}};
static const struct eo_pre_tokenizer_step gpt2 = {
    .kind = EO_SPLIT, .behavior = EO_ISOLATED, .pattern = {.kind = EO_GPT2}};

/* What is before each word may double the text if words stand side by side; if the space
 * between them went, there is room for it. */
static void count_growth(struct eo_pre_tokenizer *pre_tokenizer)
{
    for (uint32_t i = 0; i + 1 < pre_tokenizer->count; i++) {
        const struct eo_pre_tokenizer_step *before = &pre_tokenizer->steps[i];
        if (before->kind == EO_SPLIT &&
            (before->behavior != EO_REMOVED_MATCH || before->invert)) {
            pre_tokenizer->growth *= 2;
            pre_tokenizer->extra *= 2;
            break;
        }
    }
    pre_tokenizer->extra++;
}

static int add_step(const struct eo_reader *reader, const char *path,
                    struct eo_pre_tokenizer_step step)
{
    struct eo_pre_tokenizer *pre_tokenizer = &reader->tokenizer->pre_tokenizer;

    if (pre_tokenizer->count == EO_MAX_PRE_TOKENIZERS) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "%s is one of more than %d steps, supported: up to that", path,
                       EO_MAX_PRE_TOKENIZERS);
    }
    pre_tokenizer->steps[pre_tokenizer->count++] = step;
    if (step.kind == EO_PREFIX && step.prefixes) {
        count_growth(pre_tokenizer);
    }
    return EO_OK;
}

static int read_plain(const struct eo_reader *reader, uint32_t node, const char *path,
                      const struct eo_pre_tokenizer_step *first,
                      const struct eo_pre_tokenizer_step *second)
{
    static const char *const keys[] = {"type"};
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = add_step(reader, path, *first);
    }
    return result == EO_OK && second != NULL ? add_step(reader, path, *second) : result;
}

static int read_bert(const struct eo_reader *reader, uint32_t node, const char *path)
{
    return read_plain(reader, node, path, &at_blanks, &at_signs);
}

static int read_whitespace_split(const struct eo_reader *reader, uint32_t node, const char *path)
{
    return read_plain(reader, node, path, &at_blanks, NULL);
}

static int read_whitespace(const struct eo_reader *reader, uint32_t node, const char *path)
{
    return read_plain(reader, node, path, &words, NULL);
}

static int read_behavior(const struct eo_reader *reader, uint32_t node, const char *path,
                         uint8_t *behavior)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    char key[MAX_KEY];
    uint32_t found = eo_read_member(reader, node, path, "behavior", key);

    for (uint8_t i = 0; i < LENGTH(names); i++) { /* in the order of enum eo_split_behavior */
        if (eo_json_is(&reader->tree, found, names[i])) {
            *behavior = i;
            return EO_OK;
        }
    }
    return eo_read_damaged(reader, key, found,
                           "Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
}

static int read_punctuation(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "behavior"};
    struct eo_pre_tokenizer_step step = at_signs;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK && !eo_read_is_null(reader, eo_read_child(reader, node, "behavior"))) {
        result = read_behavior(reader, node, path, &step.behavior);
    }
    return result == EO_OK ? add_step(reader, path, step) : result;
}

static int read_split(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "pattern", "behavior", "invert"};
    struct eo_pre_tokenizer_step step = {.kind = EO_SPLIT};
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = eo_read_pattern(reader, node, path, &step.pattern);
    }
    if (result == EO_OK) {
        result = read_behavior(reader, node, path, &step.behavior);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "invert", &step.invert);
    }
    return result == EO_OK ? add_step(reader, path, step) : result;
}

static int read_scheme(const struct eo_reader *reader, uint32_t node, const char *path,
                       struct eo_pre_tokenizer_step *step)
{
    char key[MAX_KEY];
    uint32_t scheme = eo_read_member(reader, node, path, "prepend_scheme", key);
    bool prefixes = true;
    int result = eo_read_optional_bool(reader, node, path, "add_prefix_space", &prefixes);

    if (result != EO_OK) {
        return result;
    }
    step->first_only = eo_json_is(&reader->tree, scheme, "first");
    step->prefixes = scheme == 0 || step->first_only || eo_json_is(&reader->tree, scheme, "always");
    if (!step->prefixes && !eo_json_is(&reader->tree, scheme, "never")) {
        return eo_read_damaged(reader, key, scheme, "always, first or never");
    }
    return prefixes || !step->prefixes
               ? EO_OK
               : eo_read_damaged(reader, key, scheme, "never, as add_prefix_space is false");
}

static int read_metaspace(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type",  "replacement",      "prepend_scheme",
                                       "split", "add_prefix_space", "str_rep"};
    struct eo_pre_tokenizer_step step = {.kind = EO_PREFIX, .replaces_blank = true};
    struct eo_pattern *pattern = &step.pattern;
    bool splits = true;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = eo_read_codes(reader, node, path, "replacement", &pattern->codes,
                               &pattern->count);
    }
    if (result == EO_OK && pattern->count != 1) {
        char key[MAX_KEY];
        uint32_t found = eo_read_member(reader, node, path, "replacement", key);
        return eo_read_damaged(reader, key, found, "one character");
    }
    if (result == EO_OK) {
        result = read_scheme(reader, node, path, &step);
    }
    if (result == EO_OK) {
        result = eo_read_optional_bool(reader, node, path, "split", &splits);
    }
    if (result == EO_OK) {
        step.prefix = pattern->codes[0];
        result = add_step(reader, path, step);
    }
    return result == EO_OK && splits
               ? add_step(reader, path, (struct eo_pre_tokenizer_step){
                                            .kind = EO_SPLIT,
                                            .behavior = EO_MERGED_WITH_NEXT,
                                            .pattern = *pattern})
               : result;
}

static int read_byte_level(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex"};
    struct eo_pre_tokenizer_step step = {.kind = EO_PREFIX, .prefix = ' ', .prefixes = true};
    bool prefixes = false, splits = true;
    int result = eo_read_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK && reader->tokenizer->kind != EO_BPE) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "%s is ByteLevel, supported: with BPE", path);
    }
    if (result == EO_OK) {
        result = eo_read_bool(reader, node, path, "add_prefix_space", &prefixes);
    }
    if (result == EO_OK) {
        result = eo_read_optional_bool(reader, node, path, "use_regex", &splits);
    }
    if (result == EO_OK && prefixes) {
        result = add_step(reader, path, step);
    }
    if (result == EO_OK && splits) {
        result = add_step(reader, path, gpt2);
    }
    reader->tokenizer->bpe.byte_level = true;
    return result;
}

static int read_one(const struct eo_reader *reader, uint32_t node, const char *path);

/* The depth of sequences in each other is limited as that of JSON is. */
static int read_sequence(const struct eo_reader *reader, uint32_t node, const char *path)
{
    static const char *const keys[] = {"type", "pretokenizers"};
    const struct eo_json_node *nodes = reader->tree.nodes;
    char key[MAX_KEY], inner[MAX_KEY + 16];
    uint32_t list = eo_read_member(reader, node, path, "pretokenizers", key), index = 0;
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
        int (*read)(const struct eo_reader *, uint32_t, const char *);
    } kinds[] = {{"BertPreTokenizer", read_bert},    {"ByteLevel", read_byte_level},
                 {"Metaspace", read_metaspace},      {"Punctuation", read_punctuation},
                 {"Split", read_split},              {"Whitespace", read_whitespace},
                 {"WhitespaceSplit", read_whitespace_split}, {"Sequence", read_sequence}};
    char key[MAX_KEY];
    uint32_t type = eo_read_member(reader, node, path, "type", key);

    for (size_t i = 0; i < LENGTH(kinds); i++) {
        if (!eo_json_is(&reader->tree, type, kinds[i].type)) {
            continue;
        }
        return reader->tokenizer->bpe.byte_level
                   ? eo_read_unsupported(reader, key, type, "none after ByteLevel")
                   : kinds[i].read(reader, node, path);
    }
    return eo_read_unsupported(reader, key, type,
                               "BertPreTokenizer, ByteLevel, Metaspace, Punctuation, Split, "
                               "Whitespace, WhitespaceSplit, Sequence, or null");
}

int eo_read_pre_tokenizer(const struct eo_reader *reader, uint32_t node)
{
    reader->tokenizer->pre_tokenizer.growth = 1;
    return eo_read_is_null(reader, node) ? EO_OK : read_one(reader, node, "pre_tokenizer");
}
