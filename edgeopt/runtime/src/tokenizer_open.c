#include "tokenizer_model.h"

#include "unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_KEY 96            /* of a dotted key in a message */
#define MAX_QUOTE 64          /* of what the file says, in a message */
#define MAX_ADDED_CHARS 256U  /* what is looked for at each place of a text has to end somewhere */
#define LENGTH(array) (sizeof(array) / sizeof *(array))

struct reader {
    struct eo_json_tree tree;
    const char *where;
    struct eo_failure *failure;
    struct eo_tokenizer *tokenizer;
};

/* ---- what is wrong with a file ---- */

/* What the file says at `node`, cut, on one line. */
static const char *quote(const struct reader *reader, uint32_t node, char out[MAX_QUOTE])
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
    memcpy(out + shown, "...", 4);
    if (shown == bytes) {
        out[shown] = '\0';
    }
    return out;
}

static int damaged(const struct reader *reader, const char *key, uint32_t node,
                   const char *expected)
{
    char text[MAX_QUOTE];

    if (node == 0) {
        return eo_fail(reader->failure, EO_EBUNDLE, reader->where, "%s is missing, expected %s", key,
                       expected);
    }
    return eo_fail(reader->failure, EO_EBUNDLE, reader->where, "%s is %s, expected %s", key,
                   quote(reader, node, text), expected);
}

static int unsupported(const struct reader *reader, const char *key, uint32_t node,
                       const char *supported)
{
    char text[MAX_QUOTE];

    return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where, "%s is %s, supported: %s", key,
                   node == 0 ? "missing" : quote(reader, node, text), supported);
}

static int no_memory(const struct reader *reader)
{
    return eo_fail(reader->failure, EO_ENOMEM, reader->where, "no memory for the tokenizer");
}

static int crowded(const struct reader *reader, const char *key)
{
    return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                   "%s falls on one place of the hash table too often", key);
}

/* ---- values ---- */

static const struct eo_json_node *at(const struct reader *reader, uint32_t node)
{
    return &reader->tree.nodes[node];
}

static bool is_null(const struct reader *reader, uint32_t node)
{
    return node == 0 || at(reader, node)->type == EO_JSON_NULL;
}

/* The member `name` of `object`; 0 where either is not there. */
static uint32_t child(const struct reader *reader, uint32_t object, const char *name)
{
    return object == 0 ? 0 : eo_json_member(&reader->tree, object, name);
}

/* The member `name` of `object`, and "path.name" in `key`. */
static uint32_t member(const struct reader *reader, uint32_t object, const char *path,
                       const char *name, char key[MAX_KEY])
{
    (void)snprintf(key, MAX_KEY, "%s.%s", path, name);
    return child(reader, object, name);
}

static int read_bool(const struct reader *reader, uint32_t object, const char *path,
                     const char *name, bool *value)
{
    char key[MAX_KEY];
    uint32_t node = member(reader, object, path, name, key);

    if (node == 0 ||
        (at(reader, node)->type != EO_JSON_TRUE && at(reader, node)->type != EO_JSON_FALSE)) {
        return damaged(reader, key, node, "true or false");
    }
    *value = at(reader, node)->type == EO_JSON_TRUE;
    return EO_OK;
}

/* Like read_bool, but keeps `value` where the member is null or missing. */
static int read_optional_bool(const struct reader *reader, uint32_t object, const char *path,
                              const char *name, bool *value)
{
    return is_null(reader, child(reader, object, name))
               ? EO_OK
               : read_bool(reader, object, path, name, value);
}

static int read_integer(const struct reader *reader, uint32_t object, const char *path,
                        const char *name, int64_t high, uint32_t *value)
{
    char key[MAX_KEY], expected[64];
    uint32_t node = member(reader, object, path, name, key);
    int64_t number;

    if (node == 0 || !eo_json_integer(&reader->tree, node, 0, high, &number)) {
        (void)snprintf(expected, sizeof expected, "a whole number from 0 to %lld", (long long)high);
        return damaged(reader, key, node, expected);
    }
    *value = (uint32_t)number;
    return EO_OK;
}

/* The id in the vocabulary of string `node`, or EO_NO_TOKEN; `text` holds `size` bytes. */
static uint32_t find_token(const struct reader *reader, uint32_t node, char *text, size_t size)
{
    int64_t bytes = eo_json_string(&reader->tree, node, text, size);

    return bytes < 0
               ? EO_NO_TOKEN
               : eo_vocabulary_find(&reader->tokenizer->vocabulary, text, (size_t)bytes);
}

/* What a key or option might mean that is not known here cannot be told, so it is refused. */
static int only_keys(const struct reader *reader, uint32_t object, const char *path,
                     const char *const *names, size_t count)
{
    const struct eo_json_node *nodes = reader->tree.nodes;

    if (object == 0 || nodes[object].type != EO_JSON_OBJECT) {
        return damaged(reader, path, object, "an object");
    }
    for (uint32_t i = object + 1; i < nodes[object].next; i = nodes[i + 1].next) {
        size_t known = 0;
        while (known < count && !eo_json_is(&reader->tree, i, names[known])) {
            known++;
        }
        if (known == count) {
            char text[MAX_QUOTE];
            return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                           "%s has the key %s, which is not known", path, quote(reader, i, text));
        }
    }
    return EO_OK;
}

/* ---- normalizer and pre-tokenizer ---- */

static int read_bert_normalizer(const struct reader *reader, uint32_t node)
{
    static const char *const keys[] = {"type", "clean_text", "handle_chinese_chars",
                                       "strip_accents", "lowercase"};
    struct eo_bert_normalizer *normalizer = &reader->tokenizer->wordpiece.normalizer;
    const char *path = "normalizer";
    int result = only_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = read_bool(reader, node, path, "clean_text", &normalizer->clean_text);
    }
    if (result == EO_OK) {
        result = read_bool(reader, node, path, "handle_chinese_chars",
                           &normalizer->handle_chinese_chars);
    }
    if (result == EO_OK) {
        result = read_bool(reader, node, path, "lowercase", &normalizer->lowercase);
    }
    normalizer->strip_accents = normalizer->lowercase;
    return result == EO_OK ? read_optional_bool(reader, node, path, "strip_accents",
                                                &normalizer->strip_accents)
                           : result;
}

static int read_normalizer(const struct reader *reader, uint32_t node)
{
    uint32_t type = child(reader, node, "type");

    if (is_null(reader, node)) {
        return EO_OK;
    }
    if (reader->tokenizer->kind == EO_BYTE_BPE) {
        return unsupported(reader, "normalizer", node, "null with BPE");
    }
    if (eo_json_is(&reader->tree, type, "BertNormalizer")) {
        return read_bert_normalizer(reader, node);
    }
    if (eo_json_is(&reader->tree, type, "Lowercase")) {
        reader->tokenizer->wordpiece.normalizer.lowercase = true;
        return EO_OK;
    }
    return unsupported(reader, "normalizer.type", type, "BertNormalizer, Lowercase, or null");
}

static int read_byte_level(const struct reader *reader, uint32_t node)
{
    static const char *const keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex"};
    struct eo_byte_bpe *bpe = &reader->tokenizer->bpe;
    const char *path = "pre_tokenizer";
    int result = only_keys(reader, node, path, keys, LENGTH(keys));

    bpe->use_regex = true;
    if (result == EO_OK) {
        result = read_bool(reader, node, path, "add_prefix_space", &bpe->add_prefix_space);
    }
    return result == EO_OK ? read_optional_bool(reader, node, path, "use_regex", &bpe->use_regex)
                           : result;
}

static int read_pre_tokenizer(const struct reader *reader, uint32_t node)
{
    uint32_t type = child(reader, node, "type");
    const char *key = type == 0 ? "pre_tokenizer" : "pre_tokenizer.type";

    if (reader->tokenizer->kind == EO_WORDPIECE) {
        return eo_json_is(&reader->tree, type, "BertPreTokenizer")
                   ? EO_OK
                   : unsupported(reader, key, type == 0 ? node : type,
                                 "BertPreTokenizer with WordPiece");
    }
    return eo_json_is(&reader->tree, type, "ByteLevel")
               ? read_byte_level(reader, node)
               : unsupported(reader, key, type == 0 ? node : type, "ByteLevel with BPE");
}

/* ---- vocabulary ---- */

/* The key nodes of model.vocab by id. Every id below their count is there once. */
static int order_vocabulary(const struct reader *reader, uint32_t vocab, uint32_t count,
                            uint32_t *by_id, size_t *bytes)
{
    const struct eo_json_node *nodes = reader->tree.nodes;

    for (uint32_t i = vocab + 1; i < nodes[vocab].next; i = nodes[i + 1].next) {
        char name[MAX_QUOTE], key[MAX_KEY], expected[96];
        int64_t id;
        if (!eo_json_integer(&reader->tree, i + 1, 0, (int64_t)count - 1, &id)) {
            (void)snprintf(key, sizeof key, "model.vocab[%s]", quote(reader, i, name));
            (void)snprintf(expected, sizeof expected,
                           "a whole number from 0 to %u, as there are %u tokens",
                           (unsigned)count - 1, (unsigned)count);
            return damaged(reader, key, i + 1, expected);
        }
        if (by_id[id] != 0) {
            return eo_fail(reader->failure, EO_EBUNDLE, reader->where,
                           "model.vocab has the id %u twice", (unsigned)id);
        }
        by_id[id] = i;
        *bytes += nodes[i].end - nodes[i].begin;
    }
    return EO_OK;
}

static int add_token(const struct reader *reader, uint32_t node)
{
    char text[MAX_QUOTE];
    int result = eo_vocabulary_add(&reader->tokenizer->vocabulary, &reader->tree, node);

    if (result == EO_EUNSUPPORTED) {
        return crowded(reader, "model.vocab");
    }
    if (result != EO_OK) {
        return eo_fail(reader->failure, result, reader->where, "model.vocab has %s twice",
                       quote(reader, node, text));
    }
    return EO_OK;
}

static int fill_vocabulary(const struct reader *reader, uint32_t vocab, uint32_t count,
                           uint32_t *by_id, uint32_t added, size_t added_bytes)
{
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    size_t bytes = added_bytes;
    int result = order_vocabulary(reader, vocab, count, by_id, &bytes);

    if (result != EO_OK) {
        return result;
    }
    if (eo_vocabulary_open(&tokenizer->vocabulary, count + added, bytes) != EO_OK) {
        return no_memory(reader);
    }
    for (uint32_t id = 0; id < count && result == EO_OK; id++) {
        result = add_token(reader, by_id[id]);
    }
    tokenizer->model_count = count;
    return result;
}

/* Reads model.vocab, and sets room aside for the added tokens. */
static int read_vocabulary(const struct reader *reader, uint32_t model, uint32_t added)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    uint32_t vocab = child(reader, model, "vocab");
    uint32_t count = eo_json_length(&reader->tree, vocab);
    uint32_t added_count = is_null(reader, added) ? 0 : eo_json_length(&reader->tree, added);
    uint32_t *by_id;
    int result;

    if (vocab == 0 || nodes[vocab].type != EO_JSON_OBJECT || count == 0) {
        return damaged(reader, "model.vocab", vocab, "an object of tokens and their ids");
    }
    if (!is_null(reader, added) && nodes[added].type != EO_JSON_ARRAY) {
        return damaged(reader, "added_tokens", added, "an array");
    }
    if ((uint64_t)count + added_count > EO_MAX_VOCABULARY) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "model.vocab has %u tokens, supported: up to %u", (unsigned)count,
                       (unsigned)EO_MAX_VOCABULARY);
    }
    by_id = calloc(count, sizeof *by_id);
    if (by_id == NULL) {
        return no_memory(reader);
    }
    result = fill_vocabulary(reader, vocab, count, by_id, added_count,
                             added_count == 0 ? 0 : nodes[added].end - nodes[added].begin);
    free(by_id);
    return result;
}

/* ---- models ---- */

static int read_prefix(const struct reader *reader, uint32_t model)
{
    struct eo_wordpiece *wordpiece = &reader->tokenizer->wordpiece;
    const char *key = "model.continuing_subword_prefix";
    uint32_t node = child(reader, model, "continuing_subword_prefix");
    char *prefix;

    if (node == 0 || at(reader, node)->type != EO_JSON_STRING) {
        return damaged(reader, key, node, "a string");
    }
    prefix = malloc(at(reader, node)->end - at(reader, node)->begin + 1);
    if (prefix == NULL) {
        return no_memory(reader);
    }
    wordpiece->prefix = prefix;
    wordpiece->prefix_bytes = (uint32_t)eo_json_string(
        &reader->tree, node, prefix, at(reader, node)->end - at(reader, node)->begin + 1);
    wordpiece->prefix_hash = eo_hash(EO_HASH_START, prefix, wordpiece->prefix_bytes);
    return EO_OK;
}

static int read_wordpiece(const struct reader *reader, uint32_t model)
{
    static const char *const keys[] = {"type", "unk_token", "continuing_subword_prefix",
                                       "max_input_chars_per_word", "vocab"};
    struct eo_wordpiece *wordpiece = &reader->tokenizer->wordpiece;
    uint32_t unknown = child(reader, model, "unk_token");
    char text[256];
    int result = only_keys(reader, model, "model", keys, LENGTH(keys));

    if (result == EO_OK) {
        result = read_prefix(reader, model);
    }
    if (result == EO_OK) {
        result = read_integer(reader, model, "model", "max_input_chars_per_word", INT32_MAX,
                              &wordpiece->max_word_chars);
    }
    if (result != EO_OK) {
        return result;
    }
    if (wordpiece->max_word_chars > EO_MAX_WORD_CHARS) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "model.max_input_chars_per_word is %u, supported: up to %u",
                       (unsigned)wordpiece->max_word_chars, (unsigned)EO_MAX_WORD_CHARS);
    }
    wordpiece->unknown = find_token(reader, unknown, text, sizeof text);
    return wordpiece->unknown == EO_NO_TOKEN
               ? damaged(reader, "model.unk_token", unknown, "a token of model.vocab")
               : EO_OK;
}

/* Refuses what byte-level models do not use. */
static int check_bpe_options(const struct reader *reader, uint32_t model)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    uint32_t dropout = child(reader, model, "dropout");
    double share;
    bool byte_fallback = false;
    int result;

    if (!is_null(reader, dropout) &&
        (!eo_json_number(&reader->tree, dropout, &share) || share != 0)) {
        return unsupported(reader, "model.dropout", dropout, "null or 0");
    }
    for (size_t i = 0; i < LENGTH(affixes); i++) {
        char key[MAX_KEY];
        uint32_t affix = member(reader, model, "model", affixes[i], key);
        if (!is_null(reader, affix) && !eo_json_is(&reader->tree, affix, "")) {
            return unsupported(reader, key, affix, "null or \"\"");
        }
    }
    result = read_optional_bool(reader, model, "model", "byte_fallback", &byte_fallback);
    if (result == EO_OK && byte_fallback) {
        return unsupported(reader, "model.byte_fallback",
                           child(reader, model, "byte_fallback"), "false");
    }
    return result;
}

static int find_bytes(const struct reader *reader, uint32_t model)
{
    struct eo_byte_bpe *bpe = &reader->tokenizer->bpe;
    uint32_t unknown = child(reader, model, "unk_token");
    char text[256];

    bpe->unknown = EO_NO_TOKEN;
    if (!is_null(reader, unknown)) {
        bpe->unknown = find_token(reader, unknown, text, sizeof text);
    }
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t bytes = eo_utf8_write(eo_byte_char((uint8_t)byte), text);
        bpe->byte_ids[byte] = eo_vocabulary_find(&reader->tokenizer->vocabulary, text, bytes);
        if (bpe->byte_ids[byte] != EO_NO_TOKEN || bpe->unknown != EO_NO_TOKEN) {
            continue;
        }
        if (!is_null(reader, unknown)) {
            return damaged(reader, "model.unk_token", unknown, "a token of model.vocab");
        }
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "model.vocab has no token for byte %u, supported without model.unk_token: "
                       "one for each of 256",
                       (unsigned)byte);
    }
    return EO_OK;
}

/* ---- merges ---- */

/* The two texts of a merge: the first at `text`, the second after it. */
struct pair {
    char *text;
    size_t first;
    size_t second;
};

/* Reads "a b" or ["a", "b"]; false where it is neither. */
static bool read_pair(const struct reader *reader, uint32_t node, bool legacy, size_t size,
                      struct pair *pair)
{
    const struct eo_json_tree *tree = &reader->tree;
    int64_t first, second;

    if (legacy) {
        int64_t bytes = eo_json_string(tree, node, pair->text, size);
        char *space = bytes < 0 ? NULL : memchr(pair->text, ' ', (size_t)bytes);
        if (space == NULL) {
            return false;
        }
        pair->first = (size_t)(space - pair->text);
        pair->second = (size_t)bytes - pair->first - 1;
        memmove(space, space + 1, pair->second);
        return memchr(space, ' ', pair->second) == NULL;
    }
    if (at(reader, node)->type != EO_JSON_ARRAY || eo_json_length(tree, node) != 2) {
        return false;
    }
    first = eo_json_string(tree, node + 1, pair->text, size);
    if (first < 0) {
        return false;
    }
    second = eo_json_string(tree, tree->nodes[node + 1].next, pair->text + first,
                            size - (size_t)first);
    pair->first = (size_t)first;
    pair->second = second < 0 ? 0 : (size_t)second;
    return second >= 0;
}

/* Lines such as "#version: 0.2" come from a merges.txt and are none. */
static bool is_comment(const struct reader *reader, uint32_t node)
{
    const struct eo_json_node *found = at(reader, node);

    return found->type == EO_JSON_STRING && found->end - found->begin >= 8 &&
           memcmp(reader->tree.text + found->begin, "#version", 8) == 0;
}

static int add_merge(const struct reader *reader, uint32_t node, const struct pair *pair)
{
    const struct eo_vocabulary *vocabulary = &reader->tokenizer->vocabulary;
    struct eo_byte_bpe *bpe = &reader->tokenizer->bpe;
    struct eo_merge *merge = &bpe->merges[bpe->merge_count];
    char key[MAX_KEY];

    merge->left = eo_vocabulary_find(vocabulary, pair->text, pair->first);
    merge->right = eo_vocabulary_find(vocabulary, pair->text + pair->first, pair->second);
    merge->merged = eo_vocabulary_find(vocabulary, pair->text, pair->first + pair->second);
    if (merge->left == EO_NO_TOKEN || merge->right == EO_NO_TOKEN ||
        merge->merged == EO_NO_TOKEN) {
        (void)snprintf(key, sizeof key, "model.merges[%u]", (unsigned)bpe->merge_count);
        return damaged(reader, key, node, "two tokens of model.vocab that make a third one");
    }
    return eo_byte_bpe_index(bpe, bpe->merge_count++) == EO_OK ? EO_OK
                                                               : crowded(reader, "model.merges");
}

static int fill_merges(const struct reader *reader, uint32_t merges, char *text, size_t size)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    bool legacy = nodes[merges].next > merges + 1 && nodes[merges + 1].type == EO_JSON_STRING;
    int result = EO_OK;

    for (uint32_t i = merges + 1; i < nodes[merges].next && result == EO_OK; i = nodes[i].next) {
        struct pair pair = {.text = text};
        if (legacy && is_comment(reader, i)) {
            continue;
        }
        if (!read_pair(reader, i, legacy, size, &pair)) {
            char key[MAX_KEY];
            (void)snprintf(key, sizeof key, "model.merges[%u]",
                           (unsigned)reader->tokenizer->bpe.merge_count);
            return damaged(reader, key, i,
                           legacy ? "two tokens with one space between" : "two tokens");
        }
        result = add_merge(reader, i, &pair);
    }
    return result;
}

static int read_merges(const struct reader *reader, uint32_t model)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    struct eo_byte_bpe *bpe = &reader->tokenizer->bpe;
    uint32_t merges = child(reader, model, "merges");
    uint32_t count = eo_json_length(&reader->tree, merges), slots = 16;
    size_t size = 1;
    char *text;
    int result;

    if (merges == 0 || nodes[merges].type != EO_JSON_ARRAY) {
        return damaged(reader, "model.merges", merges, "an array");
    }
    for (uint32_t i = merges + 1; i < nodes[merges].next; i = nodes[i].next) {
        size_t bytes = nodes[i].end - nodes[i].begin + 1;
        size = bytes > size ? bytes : size;
    }
    while (slots / 2 < count) {
        slots *= 2;
    }
    text = malloc(size);
    bpe->merges = calloc((size_t)count + 1, sizeof *bpe->merges);
    bpe->slots = calloc(slots, sizeof *bpe->slots);
    bpe->mask = slots - 1;
    result = text == NULL || bpe->merges == NULL || bpe->slots == NULL
                 ? no_memory(reader)
                 : fill_merges(reader, merges, text, size);
    free(text);
    return result;
}

static int read_bpe(const struct reader *reader, uint32_t model)
{
    static const char *const keys[] = {"type",          "dropout",
                                       "unk_token",     "continuing_subword_prefix",
                                       "fuse_unk",      "end_of_word_suffix",
                                       "byte_fallback", "ignore_merges",
                                       "vocab",         "merges"};
    struct eo_byte_bpe *bpe = &reader->tokenizer->bpe;
    int result = only_keys(reader, model, "model", keys, LENGTH(keys));

    if (result == EO_OK) {
        result = check_bpe_options(reader, model);
    }
    if (result == EO_OK) {
        result = read_optional_bool(reader, model, "model", "fuse_unk", &bpe->fuse_unknown);
    }
    if (result == EO_OK) {
        result = read_optional_bool(reader, model, "model", "ignore_merges", &bpe->ignore_merges);
    }
    if (result == EO_OK) {
        result = find_bytes(reader, model);
    }
    return result == EO_OK ? read_merges(reader, model) : result;
}

/* Old files leave model.type out; then its other keys tell. */
static int read_kind(const struct reader *reader, uint32_t model)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t type = child(reader, model, "type");

    if (model == 0 || tree->nodes[model].type != EO_JSON_OBJECT) {
        return damaged(reader, "model", model, "an object");
    }
    if (eo_json_is(tree, type, "BPE") ||
        (type == 0 && child(reader, model, "merges") != 0)) {
        reader->tokenizer->kind = EO_BYTE_BPE;
        return EO_OK;
    }
    if (eo_json_is(tree, type, "WordPiece") ||
        (type == 0 && child(reader, model, "max_input_chars_per_word") != 0)) {
        reader->tokenizer->kind = EO_WORDPIECE;
        return EO_OK;
    }
    return unsupported(reader, "model.type", type, "WordPiece and BPE");
}

/* ---- added tokens ---- */

/* What is needed while added tokens are read. */
struct added_reader {
    uint8_t *seen; /* by id */
    struct eo_normalized normalized;
};

/* The id of the token with this content: its own in the vocabulary, or the next. */
static int check_added_id(const struct reader *reader, uint32_t token, const char *path,
                          struct added_reader *state, uint32_t *id)
{
    struct eo_vocabulary *vocabulary = &reader->tokenizer->vocabulary;
    char key[MAX_KEY], expected[64];
    int64_t number;
    uint32_t content = member(reader, token, path, "content", key);
    uint32_t next = vocabulary->count;
    size_t room = vocabulary->text_capacity - vocabulary->offsets[next];

    if (content == 0 || at(reader, content)->type != EO_JSON_STRING ||
        at(reader, content)->end == at(reader, content)->begin) {
        return damaged(reader, key, content, "a string that is not empty");
    }
    /* The end of the vocabulary's memory has room for the content, whether it is added or not. */
    *id = find_token(reader, content, vocabulary->text + vocabulary->offsets[next], room);
    if (*id == EO_NO_TOKEN) {
        *id = next;
        if (eo_vocabulary_add(vocabulary, &reader->tree, content) != EO_OK) {
            return crowded(reader, "added_tokens");
        }
    }
    (void)snprintf(key, sizeof key, "%s.id", path);
    (void)snprintf(expected, sizeof expected, "%u", (unsigned)*id);
    content = child(reader, token, "id");
    if (!eo_json_integer(&reader->tree, content, *id, *id, &number)) {
        return damaged(reader, key, content, expected);
    }
    if (state->seen[*id] != 0) {
        return eo_fail(reader->failure, EO_EBUNDLE, reader->where, "added_tokens has %s twice",
                       eo_tokenizer_text(reader->tokenizer, (int32_t)*id));
    }
    state->seen[*id] = 1;
    return EO_OK;
}

/* Adds the code points of the token, normalised where they are looked for in normalised text. */
static int add_codes(const struct reader *reader, struct added_reader *state, uint32_t id,
                     const char *path, struct eo_added_set *set, struct eo_added_token *token)
{
    static const struct eo_bert_normalizer none = {0};
    size_t bytes;
    const char *text = eo_vocabulary_text(&reader->tokenizer->vocabulary, id, &bytes);
    struct eo_normalized *out = &state->normalized;

    eo_bert_normalize(set == &reader->tokenizer->added ? &none
                                                       : &reader->tokenizer->wordpiece.normalizer,
                      text, 0, (uint32_t)bytes, out);
    if (out->count == 0 || out->count > MAX_ADDED_CHARS) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "%s.content has %u characters once normalised, supported: 1 to %u", path,
                       (unsigned)out->count, (unsigned)MAX_ADDED_CHARS);
    }
    token->first = set->code_count;
    token->count = out->count;
    memcpy(set->codes + set->code_count, out->codes, out->count * sizeof *out->codes);
    set->code_count += out->count;
    return EO_OK;
}

static int read_added_token(const struct reader *reader, uint32_t node, const char *path,
                            struct added_reader *state)
{
    static const char *const keys[] = {"id",     "content", "single_word", "lstrip",
                                       "rstrip", "special", "normalized"};
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    struct eo_added_token token = {0};
    struct eo_added_set *set;
    bool normalized = false, special = false;
    int result = only_keys(reader, node, path, keys, LENGTH(keys));

    if (result == EO_OK) {
        result = read_bool(reader, node, path, "single_word", &token.single_word);
    }
    if (result == EO_OK) {
        result = read_bool(reader, node, path, "lstrip", &token.lstrip);
    }
    if (result == EO_OK) {
        result = read_bool(reader, node, path, "rstrip", &token.rstrip);
    }
    if (result == EO_OK) {
        result = read_bool(reader, node, path, "special", &special);
    }
    if (result == EO_OK) {
        result = read_bool(reader, node, path, "normalized", &normalized);
    }
    if (result == EO_OK) {
        result = check_added_id(reader, node, path, state, &token.id);
    }
    if (result == EO_OK) {
        set = normalized ? &tokenizer->added_normalized : &tokenizer->added;
        result = add_codes(reader, state, token.id, path, set, &token);
        set->tokens[set->count] = token;
        set->count += result == EO_OK;
    }
    return result;
}

static int fill_added(const struct reader *reader, uint32_t added, struct added_reader *state)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    uint32_t index = 0;

    for (uint32_t i = added + 1; i < nodes[added].next; i = nodes[i].next) {
        char path[40];
        int result;
        (void)snprintf(path, sizeof path, "added_tokens[%u]", (unsigned)index++);
        result = read_added_token(reader, i, path, state);
        if (result != EO_OK) {
            return result;
        }
    }
    if (!eo_added_sort(&tokenizer->added) || !eo_added_sort(&tokenizer->added_normalized)) {
        return eo_fail(reader->failure, EO_EUNSUPPORTED, reader->where,
                       "added_tokens has two that are the same once normalised");
    }
    return EO_OK;
}

static bool open_set(struct eo_added_set *set, uint32_t tokens, size_t codes)
{
    set->tokens = calloc(tokens, sizeof *set->tokens);
    set->codes = calloc(codes, sizeof *set->codes);
    return set->tokens != NULL && set->codes != NULL;
}

static int read_added(const struct reader *reader, uint32_t added)
{
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    uint32_t count = is_null(reader, added) ? 0 : eo_json_length(&reader->tree, added);
    uint32_t bytes = at(reader, added)->end - at(reader, added)->begin;
    struct added_reader state = {0};
    int result;

    if (count == 0) {
        return EO_OK;
    }
    state.seen = calloc((size_t)tokenizer->model_count + count, 1);
    state.normalized.codes = calloc((size_t)bytes * 4, sizeof(uint32_t));
    state.normalized.begins = state.normalized.codes + bytes;
    state.normalized.ends = state.normalized.codes + 2 * (size_t)bytes;
    state.normalized.reordered = state.normalized.codes + 3 * (size_t)bytes;
    result = state.seen == NULL || state.normalized.codes == NULL ||
                     !open_set(&tokenizer->added, count, bytes) ||
                     !open_set(&tokenizer->added_normalized, count, bytes)
                 ? no_memory(reader)
                 : fill_added(reader, added, &state);
    free(state.seen);
    free(state.normalized.codes);
    return result;
}

/* ---- post-processor ---- */

/* What the processors read so far do. */
struct processed {
    bool templated;
    bool trimmed;
};

static int add_piece(const struct reader *reader, struct eo_template *template, const char *path,
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
static int add_special(const struct reader *reader, uint32_t specials, uint32_t name,
                       uint8_t type_id, struct eo_template *template, const char *path)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t found = 0, ids;
    char text[256];

    if (eo_json_string(tree, name, text, sizeof text) >= 0) {
        found = child(reader, specials, text);
    }
    ids = child(reader, found, "ids");
    if (ids == 0 || tree->nodes[ids].type != EO_JSON_ARRAY) {
        return damaged(reader, path, name, "a token of post_processor.special_tokens");
    }
    for (uint32_t i = ids + 1; i < tree->nodes[ids].next; i = tree->nodes[i].next) {
        int64_t id;
        int result;
        if (!eo_json_integer(tree, i, 0, (int64_t)reader->tokenizer->vocabulary.count - 1, &id)) {
            return damaged(reader, "post_processor.special_tokens' id", i,
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

static int read_piece(const struct reader *reader, uint32_t node, uint32_t specials,
                      const char *path, struct eo_template *template)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t special = child(reader, node, "SpecialToken");
    uint32_t sequence = child(reader, node, "Sequence");
    uint32_t piece = special != 0 ? special : sequence;
    uint32_t id = child(reader, piece, "id"), type_id;
    int result;

    if (piece == 0) {
        return damaged(reader, path, node, "a SpecialToken or a Sequence");
    }
    result = read_integer(reader, piece, path, "type_id", UINT8_MAX, &type_id);
    if (result != EO_OK) {
        return result;
    }
    if (special != 0) {
        return add_special(reader, specials, id, (uint8_t)type_id, template, path);
    }
    if (!eo_json_is(tree, id, "A") && !eo_json_is(tree, id, "B")) {
        return damaged(reader, path, node, "the Sequence A or B");
    }
    return add_piece(reader, template, path,
                     (struct eo_template_piece){
                         eo_json_is(tree, id, "A") ? EO_PIECE_TEXT : EO_PIECE_PAIR,
                         (uint8_t)type_id, 0});
}

static int read_template(const struct reader *reader, uint32_t node, const char *name,
                         uint32_t texts, uint32_t pairs, struct eo_template *template)
{
    const struct eo_json_node *nodes = reader->tree.nodes;
    char path[MAX_KEY];
    uint32_t pieces = member(reader, node, "post_processor", name, path);
    uint32_t specials = child(reader, node, "special_tokens");

    template->count = 0;
    if (pieces == 0 || nodes[pieces].type != EO_JSON_ARRAY) {
        return damaged(reader, path, pieces, "an array");
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
               : unsupported(reader, path, pieces, "each text of it once, and no other");
}

/* Reads ["[CLS]", 101]. */
static int read_mark(const struct reader *reader, uint32_t node, const char *name, uint32_t *id)
{
    const struct eo_json_tree *tree = &reader->tree;
    char key[MAX_KEY];
    uint32_t mark = member(reader, node, "post_processor", name, key);
    int64_t number;

    if (mark == 0 || tree->nodes[mark].type != EO_JSON_ARRAY || eo_json_length(tree, mark) != 2 ||
        !eo_json_integer(tree, tree->nodes[mark + 1].next, 0,
                         (int64_t)reader->tokenizer->vocabulary.count - 1, &number)) {
        return damaged(reader, key, mark, "a token and its id");
    }
    *id = (uint32_t)number;
    return EO_OK;
}

/* BERT's [CLS] a [SEP] b [SEP], or RoBERTa's <s> a </s></s> b </s>. */
static int read_marks(const struct reader *reader, uint32_t node, bool roberta)
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

static int read_trimming(const struct reader *reader, uint32_t node, struct processed *processed)
{
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    bool trims = false, keeps = false;
    int result = read_bool(reader, node, "post_processor", "trim_offsets", &trims);

    if (result == EO_OK) {
        result = read_bool(reader, node, "post_processor", "add_prefix_space", &keeps);
    }
    if (result != EO_OK || !trims) {
        return result;
    }
    if (processed->trimmed || tokenizer->kind != EO_BYTE_BPE) {
        return unsupported(reader, "post_processor.trim_offsets",
                           child(reader, node, "trim_offsets"),
                           processed->trimmed ? "once" : "false with WordPiece");
    }
    processed->trimmed = true;
    tokenizer->trim_offsets = true;
    tokenizer->trim_keeps_prefix_space = keeps;
    return EO_OK;
}

static int read_template_processor(const struct reader *reader, uint32_t node)
{
    static const char *const keys[] = {"type", "single", "pair", "special_tokens"};
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    int result = only_keys(reader, node, "post_processor", keys, LENGTH(keys));

    if (result == EO_OK) {
        result = read_template(reader, node, "single", 1, 0, &tokenizer->single);
    }
    return result == EO_OK ? read_template(reader, node, "pair", 1, 1, &tokenizer->pair) : result;
}

static int read_processor(const struct reader *reader, uint32_t node, struct processed *processed)
{
    static const char *const keys[] = {"type",         "sep",
                                       "cls",          "add_prefix_space",
                                       "trim_offsets", "use_regex"};
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t type = child(reader, node, "type");
    bool roberta = eo_json_is(tree, type, "RobertaProcessing");
    bool bert = eo_json_is(tree, type, "BertProcessing");
    bool template = eo_json_is(tree, type, "TemplateProcessing");
    int result;

    if (!template && !bert && !roberta && !eo_json_is(tree, type, "ByteLevel")) {
        return unsupported(reader, "post_processor.type", type,
                           "TemplateProcessing, BertProcessing, RobertaProcessing, ByteLevel, a "
                           "Sequence of them, or null");
    }
    if ((template || bert || roberta) && processed->templated) {
        return unsupported(reader, "post_processor.type", type, "one that adds tokens");
    }
    processed->templated |= template || bert || roberta;
    if (template) {
        return read_template_processor(reader, node);
    }
    result = only_keys(reader, node, "post_processor", keys, LENGTH(keys));
    if (result == EO_OK && (bert || roberta)) {
        result = read_marks(reader, node, roberta);
    }
    return result == EO_OK && !bert ? read_trimming(reader, node, processed) : result;
}

static int read_post_processor(const struct reader *reader, uint32_t node)
{
    const struct eo_json_tree *tree = &reader->tree;
    struct eo_tokenizer *tokenizer = reader->tokenizer;
    struct processed processed = {0};
    uint32_t processors;

    tokenizer->single = (struct eo_template){.pieces = {{EO_PIECE_TEXT, 0, 0}}, .count = 1};
    tokenizer->pair = (struct eo_template){
        .pieces = {{EO_PIECE_TEXT, 0, 0}, {EO_PIECE_PAIR, 1, 0}}, .count = 2};
    if (is_null(reader, node)) {
        return EO_OK;
    }
    if (!eo_json_is(tree, child(reader, node, "type"), "Sequence")) {
        return read_processor(reader, node, &processed);
    }
    processors = child(reader, node, "processors");
    if (processors == 0 || tree->nodes[processors].type != EO_JSON_ARRAY) {
        return damaged(reader, "post_processor.processors", processors, "an array");
    }
    for (uint32_t i = processors + 1; i < tree->nodes[processors].next; i = tree->nodes[i].next) {
        int result = read_processor(reader, i, &processed);
        if (result != EO_OK) {
            return result;
        }
    }
    return EO_OK;
}

/* ---- the file ---- */

/* Gives back what was set aside for the longest that the file could have meant. */
static void shrink(struct eo_tokenizer *tokenizer)
{
    struct eo_added_set *sets[] = {&tokenizer->added, &tokenizer->added_normalized};
    struct eo_vocabulary *vocabulary = &tokenizer->vocabulary;
    char *text = realloc(vocabulary->text, vocabulary->offsets[vocabulary->count]);

    vocabulary->text = text == NULL ? vocabulary->text : text;
    for (size_t i = 0; i < LENGTH(sets); i++) {
        size_t count = sets[i]->code_count;
        uint32_t *codes = count == 0 ? NULL : realloc(sets[i]->codes, count * sizeof *codes);
        sets[i]->codes = codes == NULL ? sets[i]->codes : codes;
    }
}

static int read_model(const struct reader *reader, uint32_t model)
{
    return reader->tokenizer->kind == EO_WORDPIECE ? read_wordpiece(reader, model)
                                                   : read_bpe(reader, model);
}

static int read_tokenizer(const struct reader *reader)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t version = eo_json_member(tree, 0, "version");
    uint32_t model = eo_json_member(tree, 0, "model");
    uint32_t added = eo_json_member(tree, 0, "added_tokens");
    int result;

    if (version != 0 && !eo_json_is(tree, version, "1.0")) {
        return unsupported(reader, "version", version, "\"1.0\"");
    }
    result = read_kind(reader, model);
    if (result == EO_OK) {
        result = read_normalizer(reader, eo_json_member(tree, 0, "normalizer"));
    }
    if (result == EO_OK) {
        result = read_pre_tokenizer(reader, eo_json_member(tree, 0, "pre_tokenizer"));
    }
    if (result == EO_OK) {
        result = read_vocabulary(reader, model, added);
    }
    if (result == EO_OK) {
        result = read_model(reader, model);
    }
    if (result == EO_OK) {
        result = read_added(reader, added);
    }
    return result == EO_OK
               ? read_post_processor(reader, eo_json_member(tree, 0, "post_processor"))
               : result;
}

int eo_tokenizer_open(const char *json, size_t bytes, const char *where,
                      struct eo_tokenizer **tokenizer, struct eo_failure *failure)
{
    struct reader reader = {.where = where, .failure = failure};
    int result;

    *tokenizer = NULL;
    reader.tokenizer = calloc(1, sizeof *reader.tokenizer);
    if (reader.tokenizer == NULL) {
        return no_memory(&reader);
    }
    result = eo_json_parse(json, bytes, where, &reader.tree, failure);
    if (result == EO_OK) {
        result = read_tokenizer(&reader);
    }
    eo_json_free(&reader.tree);
    if (result != EO_OK) {
        eo_tokenizer_close(reader.tokenizer);
        return result;
    }
    shrink(reader.tokenizer);
    *tokenizer = reader.tokenizer;
    return EO_OK;
}
