/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/detokenizer.h"

#include "base/utf8.h"
#include "tokenizer/tokenizer_reader.h"

#include <stdlib.h>
#include <string.h>

enum { BYTE_CHARS = 0x144, MAX_SPACE = 8, REPLACEMENT_BYTES = 3 };

/* What becomes of the spaces that a text begins with. */
enum first { FIRST_STAYS, FIRST_STRIPPED, FIRST_DROPPED };

struct eo_detokenizer {
    const struct eo_tokenizer *tokenizer;
    bool byte_level;
    bool byte_fallback;
    int16_t byte_of[BYTE_CHARS]; /* of byte_level: what a character stands for, or -1 */
    char space[MAX_SPACE];       /* what stands for a space; "": nothing does */
    size_t space_bytes;
    enum first first; /* of a text that is not begun */
    uint8_t *special; /* a bit for each token */
};

static int read_space(const struct eo_reader *reader, uint32_t node, const char *key,
                      struct eo_detokenizer *detokenizer)
{
    int64_t bytes = eo_json_string(&reader->tree, node, detokenizer->space, MAX_SPACE);

    if (bytes <= 0) {
        return eo_read_unsupported(reader, key, node, "one character");
    }
    detokenizer->space_bytes = (size_t)bytes;
    return EO_OK;
}

/* {"type": "Replace", "pattern": {"String": "_"}, "content": " "} */
static int read_replace(const struct eo_reader *reader, uint32_t node,
                        struct eo_detokenizer *detokenizer)
{
    uint32_t content = eo_read_child(reader, node, "content");
    uint32_t pattern = eo_read_child(reader, node, "pattern");

    if (!eo_json_is(&reader->tree, content, " ")) {
        return eo_read_unsupported(reader, "decoder.content", content, "a space");
    }
    return read_space(reader, eo_read_child(reader, pattern, "String"), "decoder.pattern",
                      detokenizer);
}

static int read_metaspace(const struct eo_reader *reader, uint32_t node,
                          struct eo_detokenizer *detokenizer)
{
    uint32_t scheme = eo_read_child(reader, node, "prepend_scheme");
    bool prefix = true; /* old files have this instead */
    int result = eo_read_optional_bool(reader, node, "decoder", "add_prefix_space", &prefix);

    if (result != EO_OK) {
        return result;
    }
    if (!eo_read_is_null(reader, scheme)) {
        prefix = !eo_json_is(&reader->tree, scheme, "never");
    }
    detokenizer->first = prefix ? FIRST_DROPPED : FIRST_STAYS;
    return read_space(reader, eo_read_child(reader, node, "replacement"), "decoder.replacement",
                      detokenizer);
}

/* {"type": "Strip", "content": " ", "start": 1, "stop": 0}, of the whole text */
static int read_strip(const struct eo_reader *reader, uint32_t node, bool fused,
                      struct eo_detokenizer *detokenizer)
{
    uint32_t start = 0, stop = 0;
    int result = eo_read_integer(reader, node, "decoder", "start", 1, &start);

    if (result == EO_OK) {
        result = eo_read_integer(reader, node, "decoder", "stop", 1, &stop);
    }
    if (result != EO_OK) {
        return result;
    }
    if (!fused || stop != 0 ||
        !eo_json_is(&reader->tree, eo_read_child(reader, node, "content"), " ")) {
        return eo_read_unsupported(reader, "decoder", node, "a Strip of the text's first space");
    }
    detokenizer->first = start == 1 ? FIRST_STRIPPED : FIRST_STAYS;
    return EO_OK;
}

static void read_byte_level(struct eo_detokenizer *detokenizer)
{
    memset(detokenizer->byte_of, 0xff, sizeof detokenizer->byte_of); /* all -1 */
    for (uint32_t byte = 0; byte < 256; byte++) {
        detokenizer->byte_of[eo_byte_char((uint8_t)byte)] = (int16_t)byte;
    }
    detokenizer->byte_level = true;
}

static int read_step(const struct eo_reader *reader, uint32_t node, bool *fused,
                     struct eo_detokenizer *detokenizer)
{
    uint32_t type = eo_read_child(reader, node, "type");

    if (eo_json_is(&reader->tree, type, "Replace")) {
        return read_replace(reader, node, detokenizer);
    }
    if (eo_json_is(&reader->tree, type, "Metaspace")) {
        return read_metaspace(reader, node, detokenizer);
    }
    if (eo_json_is(&reader->tree, type, "Strip")) {
        return read_strip(reader, node, *fused, detokenizer);
    }
    if (eo_json_is(&reader->tree, type, "ByteFallback")) {
        detokenizer->byte_fallback = true;
        return EO_OK;
    }
    if (eo_json_is(&reader->tree, type, "Fuse")) {
        *fused = true;
        return EO_OK;
    }
    return eo_read_unsupported(reader, "decoder", node,
                               "ByteLevel, Metaspace, Replace, ByteFallback, Fuse and Strip");
}

static int read_decoder(const struct eo_reader *reader, uint32_t node,
                        struct eo_detokenizer *detokenizer)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t type = eo_read_child(reader, node, "type");
    uint32_t steps = eo_read_child(reader, node, "decoders");
    bool fused = false;
    int result = EO_OK;

    if (node != 0 && eo_json_is(tree, type, "ByteLevel")) {
        read_byte_level(detokenizer);
        return EO_OK;
    }
    if (node == 0 || !eo_json_is(tree, type, "Sequence")) {
        return read_step(reader, node, &fused, detokenizer);
    }
    if (steps == 0 || tree->nodes[steps].type != EO_JSON_ARRAY) {
        return eo_read_damaged(reader, "decoder.decoders", steps, "an array");
    }
    for (uint32_t i = steps + 1; result == EO_OK && i < tree->nodes[steps].next;
         i = tree->nodes[i].next) {
        result = read_step(reader, i, &fused, detokenizer);
    }
    return result;
}

/* The tokenizer was opened from this, so what it needs of it is right. */
static int read_special(const struct eo_reader *reader, uint32_t added,
                        struct eo_detokenizer *detokenizer)
{
    const struct eo_json_tree *tree = &reader->tree;
    uint32_t count = eo_tokenizer_vocabulary_size(reader->tokenizer);

    detokenizer->special = calloc((size_t)count / 8 + 1, 1);
    if (detokenizer->special == NULL) {
        return eo_read_no_memory(reader);
    }
    if (eo_read_is_null(reader, added)) {
        return EO_OK;
    }
    for (uint32_t i = added + 1; i < tree->nodes[added].next; i = tree->nodes[i].next) {
        uint32_t special = eo_read_child(reader, i, "special");
        int64_t id = 0;
        if (special != 0 && tree->nodes[special].type == EO_JSON_TRUE && count > 0 &&
            eo_json_integer(tree, eo_read_child(reader, i, "id"), 0, count - 1, &id)) {
            detokenizer->special[id / 8] |= (uint8_t)(1U << id % 8);
        }
    }
    return EO_OK;
}

int eo_detokenizer_open(const struct eo_tokenizer *tokenizer, const char *json, size_t bytes,
                        const char *where, struct eo_detokenizer **out, struct eo_failure *failure)
{
    /* Nothing is put into the tokenizer by what is called here. */
    struct eo_reader reader = {
        .where = where, .failure = failure, .tokenizer = (struct eo_tokenizer *)(uintptr_t)tokenizer};
    struct eo_detokenizer *detokenizer = calloc(1, sizeof *detokenizer);
    int result;

    *out = NULL;
    if (detokenizer == NULL) {
        return eo_read_no_memory(&reader);
    }
    detokenizer->tokenizer = tokenizer;
    result = eo_json_parse(json, bytes, where, &reader.tree, failure);
    if (result == EO_OK) {
        result = read_decoder(&reader, eo_json_member(&reader.tree, 0, "decoder"), detokenizer);
    }
    if (result == EO_OK) {
        result = read_special(&reader, eo_json_member(&reader.tree, 0, "added_tokens"), detokenizer);
    }
    eo_json_free(&reader.tree);
    if (result != EO_OK) {
        eo_detokenizer_close(detokenizer);
        return result;
    }
    *out = detokenizer;
    return EO_OK;
}

void eo_detokenizer_close(struct eo_detokenizer *detokenizer)
{
    if (detokenizer != NULL) {
        free(detokenizer->special);
        free(detokenizer);
    }
}

size_t eo_detokenizer_most(const struct eo_detokenizer *detokenizer)
{
    /* Each byte may be one that is replaced; those held before too. */
    return REPLACEMENT_BYTES * ((size_t)detokenizer->tokenizer->vocabulary.longest + 4);
}

/* ---- bytes to whole characters ---- */

/* Adds a byte to the text: what is whole by now is written, or replaced. */
static size_t put(struct eo_stream *stream, char byte, char *out)
{
    size_t written = 0;

    stream->bytes[stream->held++] = byte;
    while (stream->held > 0) {
        const unsigned char *bytes = (const unsigned char *)stream->bytes;
        uint32_t whole = eo_utf8_bytes(bytes, stream->held);
        size_t at = 0;
        if (whole == 0) {
            (void)eo_utf8_next(stream->bytes, stream->held, &at);
            if (at == stream->held && bytes[0] >= 0xc2 && bytes[0] < 0xf5) {
                break; /* the start of a character */
            }
            written += eo_utf8_write(EO_REPLACEMENT, out + written);
        } else {
            memcpy(out + written, bytes, whole);
            written += whole;
            at = whole;
        }
        stream->held -= (uint32_t)at;
        memmove(stream->bytes, stream->bytes + at, stream->held);
    }
    return written;
}

size_t eo_detokenizer_end(struct eo_stream *stream, char *out)
{
    size_t written = stream->held == 0 ? 0 : eo_utf8_write(EO_REPLACEMENT, out);

    stream->held = 0;
    return written;
}

/* ---- tokens to bytes ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10
         : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte that "<0x0A>" stands for; -1: none. */
static int byte_token(const char *text, size_t bytes)
{
    int high, low;

    if (bytes != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') {
        return -1;
    }
    high = hex_digit(text[3]);
    low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* Whether each character of a byte-level token stands for a byte, as in all but added ones. */
static bool stands_for_bytes(const struct eo_detokenizer *detokenizer, const char *text, size_t bytes)
{
    for (size_t at = 0; at < bytes;) {
        uint32_t code = eo_utf8_next(text, bytes, &at);
        if (code >= BYTE_CHARS || detokenizer->byte_of[code] < 0) {
            return false;
        }
    }
    return true;
}

static size_t put_byte_level(const struct eo_detokenizer *detokenizer, struct eo_stream *stream,
                             const char *text, size_t bytes, char *out)
{
    bool mapped = stands_for_bytes(detokenizer, text, bytes);
    size_t written = 0;

    for (size_t at = 0; at < bytes;) {
        char byte = text[at];
        if (mapped) {
            byte = (char)detokenizer->byte_of[eo_utf8_next(text, bytes, &at)];
        } else {
            at++;
        }
        written += put(stream, byte, out + written);
    }
    return written;
}

/* A piece of SentencePiece's: spaces stand in other characters, and some tokens for a byte. */
static size_t put_piece(const struct eo_detokenizer *detokenizer, struct eo_stream *stream,
                        const char *text, size_t bytes, char *out)
{
    int byte = detokenizer->byte_fallback ? byte_token(text, bytes) : -1;
    enum first first = stream->begun ? FIRST_STAYS : detokenizer->first;
    size_t written = 0, space = detokenizer->space_bytes;
    const char single = (char)byte;

    if (byte >= 0) {
        text = &single;
        bytes = 1;
    }
    for (size_t at = 0; at < bytes;) {
        bool is_space = byte < 0 && space > 0 && bytes - at >= space &&
                        memcmp(text + at, detokenizer->space, space) == 0;
        char found = is_space ? ' ' : text[at];
        bool skipped = (first == FIRST_STRIPPED && found == ' ' && at == 0) ||
                       (first == FIRST_DROPPED && is_space);
        at += is_space ? space : 1;
        if (!skipped) {
            written += put(stream, found, out + written);
        }
    }
    return written;
}

size_t eo_detokenizer_next(const struct eo_detokenizer *detokenizer, struct eo_stream *stream,
                           int32_t id, char *out)
{
    size_t bytes = 0, written;
    const char *text =
        id < 0 ? NULL
               : eo_vocabulary_text(&detokenizer->tokenizer->vocabulary, (uint32_t)id, &bytes);

    if (text == NULL || bytes == 0 || (detokenizer->special[id / 8] >> id % 8 & 1) != 0) {
        return 0;
    }
    written = detokenizer->byte_level ? put_byte_level(detokenizer, stream, text, bytes, out)
                                      : put_piece(detokenizer, stream, text, bytes, out);
    stream->begun = true;
    return written;
}
