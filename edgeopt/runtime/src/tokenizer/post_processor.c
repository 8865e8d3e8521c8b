/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/tokenizer_reader.h"

/* What the processors read so far do. */
struct processed {
    bool templated;
    bool trimmed;
};

static int add_piece(const struct eo_reader *reader, struct eo_template *template, const char *path,
                     struct eo_template_piece piece)
{
    if (template->count == EO_MAX_PIECES) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "%s has more than %d tokens, supported: up to that", path, EO_MAX_PIECES);
    }
    template->pieces[template->count++] = piece;
    return EO_OK;
}

/* Adds the tokens of the special token that `name` names. */
static int add_special(const struct eo_reader *reader, uint32_t specials, uint32_t name,
                       uint8_t type_id, struct eo_template *template, const char *path)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t found = 0, ids;
    char text[256];

    if (eo_json_string(tree, name, text, sizeof text) >= 0) {
        found = eo_read_child(reader, specials, text);
    }
    ids = eo_read_child(reader, found, "ids");
    if (ids == 0 || tree->nodes[ids].type != EO_JSON_ARRAY) {
        return eo_read_damaged(reader, path, name, "a token of post_processor.special_tokens");
    }
    for (uint32_t i = ids + 1; i < tree->nodes[ids].next; i = tree->nodes[i].next) {
        int64_t id;
        int result;
        if (!eo_json_integer(tree, i, 0, (int64_t)reader->tokenizer->vocabulary.count - 1, &id)) {
            return eo_read_damaged(reader, "post_processor.special_tokens' id", i,
                           "an id of the vocabulary");
        }
        result = add_piece(reader, template, path,
                           (struct eo_template_piece){EO_PIECE_TOKEN, type_id, (uint32_t)id});
        if (result != EO_OK) {
            return result;
        }
    }
    return EO_OK;
}

static int read_piece(const struct eo_reader *reader, uint32_t node, uint32_t specials,
                      const char *path, struct eo_template *template)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t special = eo_read_child(reader, node, "SpecialToken");
    uint32_t sequence = eo_read_child(reader, node, "Sequence");
    uint32_t piece = special != 0 ? special : sequence;
    uint32_t id = eo_read_child(reader, piece, "id"), type_id;
    int result;

    if (piece == 0) {
        return eo_read_damaged(reader, path, node, "a SpecialToken or a Sequence");
    }
    result = eo_read_integer(reader, piece, path, "type_id", UINT8_MAX, &type_id);
    if (result != EO_OK) {
        return result;
    }
    if (special != 0) {
        return add_special(reader, specials, id, (uint8_t)type_id, template, path);
    }
    if (!eo_json_is(tree, id, "A") && !eo_json_is(tree, id, "B")) {
        return eo_read_damaged(reader, path, node, "the Sequence A or B");
    }
    return add_piece(reader, template, path,
                     (struct eo_template_piece){
                         eo_json_is(tree, id, "A") ? EO_PIECE_TEXT : EO_PIECE_PAIR,
                         (uint8_t)type_id, 0});
}

static int read_template(const struct eo_reader *reader, uint32_t node, const char *name,
                         uint32_t texts, uint32_t pairs, struct eo_template *template)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    char path[MAX_KEY];
    uint32_t pieces = eo_read_member(reader, node, "post_processor", name, path);
    uint32_t specials = eo_read_child(reader, node, "special_tokens");

    template->count = 0;
    if (pieces == 0 || nodes[pieces].type != EO_JSON_ARRAY) {
        return eo_read_damaged(reader, path, pieces, "an array");
    }
    for (uint32_t i = pieces + 1; i < nodes[pieces].next; i = nodes[i].next) {
        int result = read_piece(reader, i, specials, path, template);
        if (result != EO_OK) {
            return result;
        }
    }
    for (uint32_t i = 0; i < template->count; i++) {
        texts -= template->pieces[i].kind == EO_PIECE_TEXT;
        pairs -= template->pieces[i].kind == EO_PIECE_PAIR;
    }
    return texts == 0 && pairs == 0
               ? EO_OK
               : eo_read_unsupported(reader, path, pieces, "each text of it once, and no other");
}

/* Reads ["[CLS]", 101]. */
static int read_mark(const struct eo_reader *reader, uint32_t node, const char *name, uint32_t *id)
{
    const struct eo_json_tree *tree = &reader->tree;
    char key[MAX_KEY];
    uint32_t mark = eo_read_member(reader, node, "post_processor", name, key);
    int64_t number;

    if (mark == 0 || tree->nodes[mark].type != EO_JSON_ARRAY || eo_json_length(tree, mark) != 2 ||
        !eo_json_integer(tree, tree->nodes[mark + 1].next, 0,
                         (int64_t)reader->tokenizer->vocabulary.count - 1, &number)) {
        return eo_read_damaged(reader, key, mark, "a token and its id");
    }
    *id = (uint32_t)number;
    return EO_OK;
}

/* BERT's [CLS] a [SEP] b [SEP], or RoBERTa's <s> a </s></s> b </s>. */
static int read_marks(const struct eo_reader *reader, uint32_t node, bool roberta)
{
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    uint32_t cls, sep, count = 0;
    uint8_t second = roberta ? 0 : 1;
    int result = read_mark(reader, node, "cls", &cls);

    if (result == EO_OK) {
        result = read_mark(reader, node, "sep", &sep);
    }
    if (result != EO_OK) {
        return result;
    }
    tokenizer->single = (struct eo_template){
        .pieces = {{EO_PIECE_TOKEN, 0, cls}, {EO_PIECE_TEXT, 0, 0}, {EO_PIECE_TOKEN, 0, sep}},
        .count = 3};
    tokenizer->pair = tokenizer->single;
    count = 3;
    if (roberta) {
        tokenizer->pair.pieces[count++] = (struct eo_template_piece){EO_PIECE_TOKEN, 0, sep};
    }
    tokenizer->pair.pieces[count++] = (struct eo_template_piece){EO_PIECE_PAIR, second, 0};
    tokenizer->pair.pieces[count++] = (struct eo_template_piece){EO_PIECE_TOKEN, second, sep};
    tokenizer->pair.count = count;
    return EO_OK;
}

/* Whether a token has as many blanks as what it stands for in the text. */
static bool keeps_blanks(const struct eo_tokenizer *tokenizer)
{
    const struct eo_normalizer *normalizer = &tokenizer->normalizer;

    for (uint32_t i = 0; i < normalizer->count; i++) {
        if (normalizer->steps[i].kind != EO_NFC && normalizer->steps[i].kind != EO_NFD) {
            return false;
        }
    }
    return true;
}

static int read_trimming(const struct eo_reader *reader, uint32_t node, struct processed *processed)
{
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    bool trims = false, keeps = false;
    int result = eo_read_bool(reader, node, "post_processor", "trim_offsets", &trims);

    if (result == EO_OK) {
        result = eo_read_bool(reader, node, "post_processor", "add_prefix_space", &keeps);
    }
    if (result != EO_OK || !trims) {
        return result;
    }
    if (processed->trimmed || !tokenizer->bpe.byte_level || !keeps_blanks(tokenizer)) {
        return eo_read_unsupported(reader, "post_processor.trim_offsets",
                                   eo_read_child(reader, node, "trim_offsets"),
                                   processed->trimmed           ? "once"
                                   : !tokenizer->bpe.byte_level ? "false without ByteLevel"
                                                                : "false with other normalizers "
                                                                  "than NFC and NFD");
    }
    processed->trimmed = true;
    tokenizer->trim_offsets = true;
    tokenizer->trim_keeps_prefix_space = keeps;
    return EO_OK;
}

static int read_template_processor(const struct eo_reader *reader, uint32_t node)
{
    static const char *const keys[] = {"type", "single", "pair", "special_tokens"};
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    int result = eo_read_keys(reader, node, "post_processor", keys, LENGTH(keys));

    if (result == EO_OK) {
        result = read_template(reader, node, "single", 1, 0, &tokenizer->single);
    }
    return result == EO_OK ? read_template(reader, node, "pair", 1, 1, &tokenizer->pair) : result;
}

static int read_processor(const struct eo_reader *reader, uint32_t node,
                          struct processed *processed)
{
    static const char *const keys[] = {"type",         "sep",
                                       "cls",          "add_prefix_space",
                                       "trim_offsets", "use_regex"};
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t type = eo_read_child(reader, node, "type");
    bool roberta = eo_json_is(tree, type, "RobertaProcessing");
    bool bert = eo_json_is(tree, type, "BertProcessing");
    bool template = eo_json_is(tree, type, "TemplateProcessing");
    int result;

    if (!template && !bert && !roberta && !eo_json_is(tree, type, "ByteLevel")) {
        return eo_read_unsupported(reader, "post_processor.type", type,
                           "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, a "
                           "Sequence of them, or null");
    }
    if ((template || bert || roberta) && processed->templated) {
        return eo_read_unsupported(reader, "post_processor.type", type, "one that adds tokens");
    }
    processed->templated |= template || bert || roberta;
    if (template) {
        return read_template_processor(reader, node);
    }
    result = eo_read_keys(reader, node, "post_processor", keys, LENGTH(keys));
    if (result == EO_OK && (bert || roberta)) {
        result = read_marks(reader, node, roberta);
    }
    return result == EO_OK && !bert ? read_trimming(reader, node, processed) : result;
}

int eo_read_post_processor(const struct eo_reader *reader, uint32_t node)
{
    const struct eo_json_tree *tree = &reader->tree;
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    struct processed processed = {0};
    uint32_t processors;

    tokenizer->single = (struct eo_template){.pieces = {{EO_PIECE_TEXT, 0, 0}}, .count = 1};
    tokenizer->pair = (struct eo_template){
        .pieces = {{EO_PIECE_TEXT, 0, 0}, {EO_PIECE_PAIR, 1, 0}}, .count = 2};
    if (eo_read_is_null(reader, node)) {
        return EO_OK;
    }
    if (!eo_json_is(tree, eo_read_child(reader, node, "type"), "Sequence")) {
        return read_processor(reader, node, &processed);
    }
    processors = eo_read_child(reader, node, "processors");
    if (processors == 0 || tree->nodes[processors].type != EO_JSON_ARRAY) {
        return eo_read_damaged(reader, "post_processor.processors", processors, "an array");
    }
    for (uint32_t i = processors + 1; i < tree->nodes[processors].next; i = tree->nodes[i].next) {
        int result = read_processor(reader, i, &processed);
        if (result != EO_OK) {
            return result;
        }
    }
    return EO_OK;
}
