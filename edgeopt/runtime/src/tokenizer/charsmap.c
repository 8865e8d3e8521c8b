/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/charsmap.h"

#include "base/utf8.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

/* No replacement is longer; that of U+FDFA, the longest of Unicode, has 33 bytes. */
#define MAX_TEXT_BYTES 255U
/* Clusters of fewer bytes are replaced as a whole, by what their start maps to: normalize of the
 * package's normalizers/precompiled.rs. */
#define CLUSTER_BYTES 6U
#define MAX_UNITS (1U << 20) /* nmt_nfkc has 44,800 */
#define HAS_LEAF (1U << 8)
#define LEAF (1U << 31)

/* ---- opening ---- */

static int32_t base64_digit(char c)
{
    return c >= 'A' && c <= 'Z'   ? c - 'A'
           : c >= 'a' && c <= 'z' ? c - 'a' + 26
           : c >= '0' && c <= '9' ? c - '0' + 52
           : c == '+'             ? 62
           : c == '/'             ? 63
                                  : -1;
}

/* Decodes in place (RFC 4648, section 4); returns the bytes, or -1 if it is damaged. */
static int64_t decode_base64(char *text, size_t size)
{
    uint8_t *out = (uint8_t *)text;
    size_t used = 0;

    if (size % 4 != 0) {
        return -1;
    }
    for (size_t at = 0; at < size; at += 4) {
        uint32_t bits = 0;
        int32_t padding = at + 4 < size || text[at + 3] != '=' ? 0 : text[at + 2] != '=' ? 1 : 2;
        for (int32_t i = 0; i < 4; i++) {
            int32_t digit = i < 4 - padding ? base64_digit(text[at + (size_t)i]) : 0;
            if (digit < 0) {
                return -1;
            }
            bits = bits << 6 | (uint32_t)digit;
        }
        for (int32_t i = 0; i < 3 - padding; i++) {
            out[used++] = (uint8_t)(bits >> (16 - 8 * i));
        }
    }
    return (int64_t)used;
}

static uint32_t read_word(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static uint32_t unit_at(const struct eo_charsmap *map, uint32_t place)
{
    return read_word(map->bytes + 4 + (size_t)place * 4);
}

/* From a node's place to where its children are, each with its byte XORed on. */
static uint32_t children_of(uint32_t place, uint32_t unit)
{
    return place ^ (unit >> 10) << ((unit & 1U << 9) >> 6);
}

static bool texts_are_sound(const struct eo_charsmap *map)
{
    uint32_t longest = 0, length = 0;

    for (uint32_t at = 0; at < map->text_bytes;) {
        uint32_t bytes = eo_utf8_bytes(map->texts + at, map->text_bytes - at);
        if (bytes == 0) {
            return false;
        }
        length = map->texts[at] == 0 ? 0 : length + bytes;
        longest = length > longest ? length : longest;
        at += bytes;
    }
    return longest <= MAX_TEXT_BYTES;
}

bool eo_charsmap_open(struct eo_charsmap *map, char *base64, size_t size)
{
    int64_t bytes = decode_base64(base64, size);
    uint32_t trie_bytes;

    map->bytes = (uint8_t *)base64;
    trie_bytes = bytes < 8 ? 0 : read_word(map->bytes);
    if (trie_bytes < 4 || trie_bytes > bytes - 4 || bytes > INT32_MAX ||
        trie_bytes / 4 > MAX_UNITS) {
        return false;
    }
    map->units = trie_bytes / 4;
    map->texts = map->bytes + 4 + (size_t)map->units * 4;
    map->text_bytes = (uint32_t)(map->bytes + bytes - map->texts);
    return texts_are_sound(map);
}

void eo_charsmap_close(struct eo_charsmap *map)
{
    free(map->bytes);
}

/* ---- looking up ---- */

/* Where the text at the leaf `place` is, and its bytes; NULL if the file is damaged. */
static const char *leaf_text(const struct eo_charsmap *map, uint32_t place, uint32_t *bytes)
{
    uint32_t at = place < map->units ? unit_at(map, place) & ~LEAF : UINT32_MAX;
    const uint8_t *end;

    if (at > map->text_bytes) {
        return NULL;
    }
    end = at == map->text_bytes ? NULL : memchr(map->texts + at, 0, map->text_bytes - at);
    *bytes = end == NULL ? map->text_bytes - at : (uint32_t)(end - (map->texts + at));
    return (const char *)map->texts + at;
}

/* What the shortest start of `key` that is in the map is replaced by; NULL if none is. */
static const char *find(const struct eo_charsmap *map, const char *key, uint32_t key_bytes,
                        uint32_t *bytes)
{
    uint32_t place = children_of(0, unit_at(map, 0));

    for (uint32_t i = 0; i < key_bytes && key[i] != '\0'; i++) {
        uint8_t byte = (uint8_t)key[i];
        uint32_t unit;
        place ^= byte;
        unit = place < map->units ? unit_at(map, place) : 0;
        if ((unit & (LEAF | 0xff)) != byte) {
            return NULL;
        }
        place = children_of(place, unit);
        if ((unit & HAS_LEAF) != 0) {
            return leaf_text(map, place, bytes);
        }
    }
    return NULL;
}

static uint32_t count_chars(const char *text, uint32_t bytes)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < bytes; i++) {
        count += (text[i] & 0xc0) != 0x80;
    }
    return count;
}

/* One level of the trie after the other, so that each node is met with its shortest key. */
static uint32_t growth_of_level(const struct eo_charsmap *map, uint8_t *levels, uint8_t level,
                                bool *more)
{
    uint32_t growth = 1;

    *more = false;
    for (uint32_t i = 0; i < map->units; i++) {
        uint32_t unit = unit_at(map, i), children, parent = i ^ (unit & 0xff), bytes;
        if ((unit & LEAF) != 0 || parent >= map->units || levels[parent] != level) {
            continue;
        }
        children = children_of(i, unit);
        if (children < map->units && levels[children] == 0) {
            levels[children] = (uint8_t)(level + 1);
            *more = true;
        }
        if ((unit & HAS_LEAF) != 0) {
            const char *text = leaf_text(map, children, &bytes);
            uint32_t chars = text == NULL ? 0 : count_chars(text, bytes);
            uint32_t each = (chars + level - 1) / level;
            growth = each > growth ? each : growth;
        }
    }
    return growth;
}

uint32_t eo_charsmap_growth(const struct eo_charsmap *map)
{
    uint8_t *levels = calloc(map->units, 1); /* by where a node's children are: its depth, from 1 */
    uint32_t growth = 1, root = children_of(0, unit_at(map, 0));
    bool more = true;

    if (levels == NULL) {
        return 0;
    }
    if (root < map->units) {
        levels[root] = 1;
    }
    for (uint8_t level = 1; more && level < UINT8_MAX; level++) {
        uint32_t one = growth_of_level(map, levels, level, &more);
        growth = one > growth ? one : growth;
    }
    free(levels);
    return growth;
}

/* ---- grapheme clusters ---- */

/* What the rules of UAX #29 need to know of a cluster's characters so far. */
struct cluster {
    uint32_t code; /* the last */
    uint32_t kind;
    bool consonant; /* and after it only what extends it or links it */
    bool linked;
    bool pictograph; /* and after it only what extends it */
    bool emoji;      /* and then a joiner, which is the last */
};

static void take(struct cluster *cluster, uint32_t code, uint32_t kind)
{
    bool extends = kind == EO_IN_EXTEND || kind == EO_IN_LINKER;
    /* U+200C extends a cluster, but no consonant: its Indic_Conjunct_Break is None. */
    bool goes_on = (extends && code != 0x200c) || kind == EO_IN_JOINER;

    cluster->emoji = cluster->pictograph && kind == EO_IN_JOINER;
    cluster->pictograph = kind == EO_IN_PICTOGRAPH || (cluster->pictograph && extends);
    cluster->consonant = kind == EO_IN_CONSONANT || (cluster->consonant && goes_on);
    cluster->linked = cluster->consonant && (kind == EO_IN_LINKER || cluster->linked) &&
                      kind != EO_IN_CONSONANT;
    cluster->code = code;
    cluster->kind = kind;
}

static bool joins_hangul(uint32_t before, uint32_t kind)
{
    bool vowel = before == EO_IN_V || before == EO_IN_LV;
    bool last = vowel || before == EO_IN_T || before == EO_IN_LVT;

    return (before == EO_IN_L && kind >= EO_IN_L && kind != EO_IN_T) ||
           (vowel && kind == EO_IN_V) || (last && kind == EO_IN_T);
}

/* Whether a character of `kind` goes on with the cluster: GB3 to GB11. */
static bool joins(const struct cluster *cluster, uint32_t code, uint32_t kind)
{
    if (cluster->kind == EO_IN_CONTROL || kind == EO_IN_CONTROL) {
        return cluster->code == '\r' && code == '\n';
    }
    return kind == EO_IN_EXTEND || kind == EO_IN_LINKER || kind == EO_IN_JOINER ||
           kind == EO_IN_SPACING || cluster->kind == EO_IN_PREPEND ||
           joins_hangul(cluster->kind, kind) || (kind == EO_IN_CONSONANT && cluster->linked) ||
           (kind == EO_IN_PICTOGRAPH && cluster->emoji);
}

/* How many characters the cluster has that starts `ahead` of the next one. */
static uint32_t cluster_chars(const struct eo_rewriter *rewriter, uint32_t ahead)
{
    uint32_t left = eo_rewrite_left(rewriter) - ahead, count = 1;
    uint32_t code = eo_rewrite_peek(rewriter, ahead);
    struct cluster cluster = {0};

    if (left == 1 ||
        (code >= 0x20 && code < 0x7f && eo_rewrite_peek(rewriter, ahead + 1) < 0x300)) {
        return 1;
    }
    take(&cluster, code, eo_unicode_cluster(code) & ~EO_MARK);
    for (; count < left; count++) {
        uint32_t kind;
        code = eo_rewrite_peek(rewriter, ahead + count);
        kind = eo_unicode_cluster(code) & ~EO_MARK;
        if (!joins(&cluster, code, kind)) {
            break;
        }
        take(&cluster, code, kind);
    }
    return count;
}

/* ---- replacing ---- */

struct replacer {
    struct eo_rewriter rewriter;
    uint32_t ahead; /* characters that went at the start of the text: the package forgets them */
    bool added;     /* the last character was added, in the words of eo_rewrite_put */
};

/* `count` characters go. What is before them takes them along, and what was added there takes the
 * place of the first. */
static void remove_chars(struct replacer *replacer, uint32_t count)
{
    struct eo_rewriter *rewriter = &replacer->rewriter;
    struct eo_normalized *text = rewriter->text;

    if (text->count == 0) {
        replacer->ahead += count;
        return;
    }
    if (replacer->added && eo_rewrite_left(rewriter) > 0) {
        text->begins[text->count - 1] = text->begins[rewriter->at];
        text->ends[text->count - 1] = text->ends[rewriter->at];
        replacer->added = false;
    }
    eo_rewrite_skip(rewriter, count);
}

/* Puts `bytes` bytes of `with` in the place of `count` characters. */
static void replace(struct replacer *replacer, uint32_t count, const char *with, uint32_t bytes)
{
    uint32_t chars = count_chars(with, bytes), done = 0;

    if (chars == 0) {
        remove_chars(replacer, count);
        return;
    }
    for (size_t at = 0; at < bytes; done++) {
        uint32_t code = eo_utf8_next(with, bytes, &at);
        int32_t change = done >= count                        ? 1
                         : done + 1 == chars && chars < count ? -(int32_t)(count - chars)
                                                              : 0;
        replacer->added = change > 0;
        eo_rewrite_put(&replacer->rewriter, code, change);
    }
}

static void replace_char(const struct eo_charsmap *map, struct replacer *replacer)
{
    char key[4];
    uint32_t code = eo_rewrite_peek(&replacer->rewriter, replacer->ahead), bytes;
    const char *with = find(map, key, eo_utf8_write(code, key), &bytes);

    if (with != NULL) {
        replace(replacer, 1, with, bytes);
    } else {
        replacer->added = false;
        eo_rewrite_put(&replacer->rewriter, code, 0);
    }
}

/* Replaces the next `count` characters as a whole; false if they are too many or not in the map. */
static bool replace_cluster(const struct eo_charsmap *map, struct replacer *replacer,
                            uint32_t count)
{
    char key[CLUSTER_BYTES + 4];
    const char *with;
    uint32_t bytes = 0;

    for (uint32_t i = 0; i < count && bytes < CLUSTER_BYTES; i++) {
        bytes += eo_utf8_write(eo_rewrite_peek(&replacer->rewriter, replacer->ahead + i),
                               key + bytes);
    }
    with = bytes < CLUSTER_BYTES ? find(map, key, bytes, &bytes) : NULL;
    if (with != NULL) {
        replace(replacer, count, with, bytes);
    }
    return with != NULL;
}

void eo_charsmap_apply(const struct eo_charsmap *map, struct eo_normalized *text)
{
    struct replacer replacer = {.rewriter = eo_rewrite(text, true)};

    while (eo_rewrite_left(&replacer.rewriter) > replacer.ahead) {
        uint32_t count = cluster_chars(&replacer.rewriter, replacer.ahead);
        if (count > 1 && replace_cluster(map, &replacer, count)) {
            continue;
        }
        for (uint32_t i = 0; i < count; i++) {
            replace_char(map, &replacer);
        }
    }
}
