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

/* Runs of code points from 0 on, each a varint of length << 4 | index in `flags`. Each block of
 * RUNS_IN_BLOCK has its first code point. */
struct code_classes {
    const uint8_t *flags;
    const uint8_t *runs;
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

static uint32_t class_of(const struct code_classes *classes, uint32_t code)
{
    uint32_t block = find_block(classes->firsts, classes->blocks, code);
    const uint8_t *at = classes->runs + classes->offsets[block];
    uint32_t end = classes->firsts[block];

    for (;;) {
        uint32_t run = read_varint(&at);
        end += run >> 4;
        if (code < end || at == classes->runs + classes->bytes) {
            return classes->flags[run & 0xf];
        }
    }
}

uint32_t eo_unicode_flags(uint32_t code)
{
    return class_of(&class_classes, code);
}

/* EO_IN_OTHER for what is no Hangul. Source: Hangul_Syllable_Type of the Unicode Character
 * Database; the vowels of Kirat Rai are those of GraphemeBreakProperty.txt since Unicode 16. */
static uint32_t hangul_type(uint32_t code)
{
    if (code >= 0xac00 && code < 0xd7a4) {
        return (code - 0xac00) % 28 == 0 ? EO_IN_LV : EO_IN_LVT;
    }
    if ((code >= 0x1100 && code < 0x1160) || (code >= 0xa960 && code < 0xa97d)) {
        return EO_IN_L;
    }
    if ((code >= 0x1160 && code < 0x11a8) || (code >= 0xd7b0 && code < 0xd7c7) ||
        code == 0x16d63 || (code >= 0x16d67 && code < 0x16d6b)) {
        return EO_IN_V;
    }
    return (code >= 0x11a8 && code < 0x1200) || (code >= 0xd7cb && code < 0xd7fc) ? EO_IN_T
                                                                                  : EO_IN_OTHER;
}

uint32_t eo_unicode_cluster(uint32_t code)
{
    uint32_t kind;

    if (code >= 0x20 && code < 0x7f) {
        return EO_IN_OTHER;
    }
    kind = class_of(&cluster_classes, code);
    return kind == EO_IN_OTHER ? hangul_type(code) : kind;
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

/* The parts of a compatibility decomposition that is not canonical; 0 if there is none. */
static uint32_t several_parts(uint32_t code, uint32_t parts[EO_MAX_PARTS])
{
    uint32_t block = find_block(several_firsts, LENGTH(several_firsts), code);
    const uint8_t *at = several_records + several_offsets[block];
    const uint8_t *end = several_records + (block + 1 < LENGTH(several_firsts)
                                                ? several_offsets[block + 1]
                                                : LENGTH(several_records));
    uint32_t place = several_firsts[block], part = 0;

    while (at < end && place <= code) {
        uint32_t head = read_varint(&at);
        uint32_t count = head & 7;
        count += count == LONG_PARTS ? read_varint(&at) : 0;
        place += head >> 3;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t change = read_varint(&at);
            part += (change >> 1) ^ (0U - (change & 1));
            if (place == code) {
                parts[i] = part;
            }
        }
        if (place++ == code) {
            return count;
        }
    }
    return 0;
}

/* The parts of `code`, which has no canonical decomposition, in NFKD. */
static uint32_t compatible_parts(uint32_t code, uint32_t parts[EO_MAX_PARTS])
{
    uint32_t count = code < 0xa0 ? 0 : several_parts(code, parts);
    int32_t change = 0;

    if (count == 0) {
        parts[0] = code >= 0xa0 && find(&compatible_map, code, &change)
                       ? (uint32_t)((int32_t)code + change)
                       : code;
    }
    return count == 0 ? 1 : count;
}

uint32_t eo_unicode_decompose(uint32_t code, bool compatible, uint32_t parts[EO_MAX_PARTS])
{
    uint32_t after[EO_MAX_PARTS], count = 0, done = 0;
    int32_t change, second;

    if (code < 0xa0 || (code >= 0x3400 && code < 0xa000)) { /* ASCII and ideographs */
        parts[0] = code;
        return 1;
    }
    if (code >= 0xac00 && code < 0xd7a4) {
        return hangul_parts(code, parts);
    }
    if ((code >= 0xf900 && code < 0xfb00) || (code >= 0x2f800 && code < 0x2fa20)) {
        code = ideograph(code);
    }
    while (code >= 0xc0 && count < 3 && find(&first_part_map, code, &change)) {
        if (find(&second_part_map, code, &second)) {
            after[count++] = (uint32_t)second;
        }
        code = (uint32_t)((int32_t)code + change);
    }
    after[count++] = code;
    while (count > 0) { /* at most four, and of several only one by itself has more than one */
        code = after[--count];
        if (compatible) {
            done += compatible_parts(code, parts + done);
        } else {
            parts[done++] = code;
        }
    }
    return done;
}

/* What does not compose again, beside what begins with a mark.
 * Source: CompositionExclusions.txt of the Unicode Character Database, whose code points are all
 * that decompose within these ranges. */
static bool is_excluded(uint32_t code)
{
    static const uint32_t ranges[][2] = {{0x958, 0x95f},   {0x9dc, 0x9df},     {0xa33, 0xa5e},
                                         {0xb5c, 0xb5d},   {0xf43, 0xfb9},     {0x2adc, 0x2adc},
                                         {0xfb1d, 0xfb4e}, {0x1d15e, 0x1d1c0}};

    for (uint32_t i = 0; i < LENGTH(ranges); i++) {
        if (code >= ranges[i][0] && code <= ranges[i][1]) {
            return true;
        }
    }
    return false;
}

/* The lowest code point above `code` that the map has; 0 if there is none. */
static uint32_t next_in_map(const struct code_map *map, uint32_t code)
{
    uint32_t block = find_block(map->firsts, map->blocks, code);

    for (; block < map->blocks; block++) {
        const uint8_t *at = map->records + map->offsets[block];
        const uint8_t *end =
            map->records + (block + 1 < map->blocks ? map->offsets[block + 1] : map->bytes);
        uint32_t begin = map->firsts[block];
        while (at < end) {
            uint32_t head = read_varint(&at);
            uint32_t shape = (head & 1) != 0 ? read_varint(&at) : 0;
            uint32_t step = 1 + (shape & 1);
            uint32_t last;
            (void)read_varint(&at);
            begin += head >> 1;
            last = begin + ((head & 1) != 0 ? ((shape >> 1) + 1) * step : 0);
            if (code < last) {
                return code < begin ? begin : code + step - (code - begin) % step;
            }
            begin = last + 1;
        }
    }
    return 0;
}

uint32_t eo_unicode_next_composed(uint32_t code, uint32_t *first, uint32_t *second)
{
    int32_t change, value;

    while ((code = next_in_map(&second_part_map, code)) != 0) {
        if (is_excluded(code) || !find(&first_part_map, code, &change) ||
            !find(&second_part_map, code, &value)) {
            continue;
        }
        *first = (uint32_t)((int32_t)code + change);
        *second = (uint32_t)value;
        if (eo_unicode_combining(*first) == 0) {
            return code;
        }
    }
    return 0;
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
