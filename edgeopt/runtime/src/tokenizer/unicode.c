/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tokenizer/unicode.h"

/* Ranges of code points in the order of the code points, each with a value. A record is a varint of
 * gap << 1 | more: the gap after the range before, in code points; if `more` is set, a varint of
 * (count - 2) << 1 | (step - 1), else there is one code point; and the value less that of the
 * record before, zigzag. Each block of RECORDS_IN_BLOCK starts again at its first code point and at 0. */
struct code_map {
    const uint8_t *records;
    uint32_t bytes;
    const uint32_t *firsts; /* by block */
    const uint16_t *offsets;
    uint32_t blocks;
};

#include "tokenizer/unicode_tables.h"

#define LENGTH(array) ((uint32_t)(sizeof(array) / sizeof *(array)))

static uint32_t read_varint(const uint8_t **at)
{
    uint32_t value = 0;

    for (uint32_t shift = 0;; shift += 7) {
        value |= (uint32_t)(**at & 0x7f) << shift;
        if ((*(*at)++ & 0x80) == 0) {
            return value;
        }
    }
}

/* The last block that starts at or before `code`; the first if none does. */
static uint32_t find_block(const uint32_t *firsts, uint32_t count, uint32_t code)
{
    uint32_t low = 0, high = count;

    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (firsts[middle] <= code) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

static bool find(const struct code_map *map, uint32_t code, int32_t *value)
{
    uint32_t block = find_block(map->firsts, map->blocks, code);
    const uint8_t *at = map->records + map->offsets[block];
    const uint8_t *end =
        map->records + (block + 1 < map->blocks ? map->offsets[block + 1] : map->bytes);
    uint32_t begin = map->firsts[block];

    *value = 0;
    while (at < end) {
        uint32_t head = read_varint(&at);
        uint32_t shape = (head & 1) != 0 ? read_varint(&at) : 0;
        uint32_t step = 1 + (shape & 1);
        uint32_t extent = (head & 1) != 0 ? ((shape >> 1) + 1) * step : 0;
        uint32_t change = read_varint(&at);

        begin += head >> 1;
        *value += (int32_t)(change >> 1) ^ -(int32_t)(change & 1);
        if (code <= begin + extent) {
            return code >= begin && (code - begin) % step == 0;
        }
        begin += extent + 1;
    }
    return false;
}

/* A run is a varint of length << 4 | index in class_flags. */
uint32_t eo_unicode_flags(uint32_t code)
{
    uint32_t block = find_block(class_firsts, LENGTH(class_firsts), code);
    const uint8_t *at = class_runs + class_offsets[block];
    uint32_t end = class_firsts[block];

    for (;;) {
        uint32_t run = read_varint(&at);
        end += run >> 4;
        if (code < end || at == class_runs + LENGTH(class_runs)) {
            return class_flags[run & 0xf];
        }
    }
}

bool eo_unicode_is_space(uint32_t code)
{
    return code == 0x20 || (code >= 0x09 && code <= 0x0d) || code == 0x85 || code == 0xa0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200a) || code == 0x2028 ||
           code == 0x2029 || code == 0x202f || code == 0x205f || code == 0x3000;
}

/* Source: is_chinese_char of the package's BertNormalizer, with its gaps. */
bool eo_unicode_is_ideograph(uint32_t code)
{
    return code >= 0x3400 && ((code >= 0x4e00 && code <= 0x9fff) || code <= 0x4dbf ||
                              (code >= 0xf900 && code <= 0xfaff) ||
                              (code >= 0x20000 && code <= 0x2a6df) ||
                              (code >= 0x2a700 && code <= 0x2b81f) ||
                              (code >= 0x2b920 && code <= 0x2ceaf) ||
                              (code >= 0x2f800 && code <= 0x2fa1f));
}

uint32_t eo_unicode_combining(uint32_t code)
{
    int32_t value;

    return code >= 0x300 && find(&combining_map, code, &value) ? (uint32_t)value : 0;
}

/* Source: The Unicode Standard, section 3.12, Hangul syllable decomposition. */
static uint32_t hangul_parts(uint32_t code, uint32_t parts[EO_MAX_PARTS])
{
    uint32_t index = code - 0xac00;

    parts[0] = 0x1100 + index / 588;
    parts[1] = 0x1161 + index % 588 / 28;
    parts[2] = 0x11a7 + index % 28;
    return index % 28 == 0 ? 2 : 3;
}

/* The canonical form of a CJK compatibility ideograph. */
static uint32_t ideograph(uint32_t code)
{
    uint32_t index = code < 0x10000 ? code - 0xf900 : code - 0x2f800 + 0x200;
    uint32_t plane2 = ideograph_plane2[index / 8] >> index % 8 & 1;

    return ideograph_low[index] == 0 ? code : plane2 << 17 | ideograph_low[index];
}

uint32_t eo_unicode_strip(uint32_t code, uint32_t parts[EO_MAX_PARTS])
{
    int32_t value;
    uint32_t count = 1;

    parts[0] = code;
    if (code < 0xc0) {
        return 1;
    }
    if (code >= 0xac00 && code < 0xd7a4) {
        return hangul_parts(code, parts);
    }
    if ((code >= 0xf900 && code < 0xfb00) || (code >= 0x2f800 && code < 0x2fa20)) {
        parts[0] = ideograph(code);
        return 1;
    }
    if (find(&first_part_map, code, &value)) {
        /* At most one level: the first part of three is a pair, that of two is whole. */
        uint32_t first = (uint32_t)value;
        if (find(&first_part_map, first, &value)) {
            parts[0] = (uint32_t)value;
            if (find(&second_part_map, first, &value)) {
                parts[count++] = (uint32_t)value;
            }
        } else {
            parts[0] = first;
        }
        if (find(&second_part_map, code, &value)) {
            parts[count++] = (uint32_t)value;
        }
        return count;
    }
    return (eo_unicode_flags(code) & EO_ACCENT) != 0 ? 0 : 1;
}

uint32_t eo_unicode_lower(uint32_t code, uint32_t lower[EO_MAX_LOWER])
{
    int32_t change;

    lower[0] = code;
    if (code < 0x80) {
        lower[0] += code >= 'A' && code <= 'Z' ? 32 : 0;
        return 1;
    }
    if (code == 0x130) {
        lower[0] = 'i';
        lower[1] = 0x307;
        return 2;
    }
    if (find(&lower_map, code, &change)) {
        lower[0] = (uint32_t)((int32_t)code + change);
    }
    return 1;
}
