/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0
 *
 * A64 instructions by the encoding index of the Arm Architecture Reference Manual (DDI 0487, C4.1):
 * bits 28 to 25 tell the group, and masks what matters within it. */
#include "classes.h"

#include <stdbool.h>
#include <stddef.h>

struct pattern {
    uint32_t mask;
    uint32_t value;
    enum eo_class is;
};

/* C4.1.96, "Data Processing -- Scalar Floating-Point and Advanced SIMD". */
static const struct pattern ADVANCED_SIMD[] = {
    {0x9F20FC00, 0x0E009400, EO_DOT},          /* SDOT, UDOT */
    {0xBFE0FC00, 0x0E809C00, EO_DOT},          /* USDOT */
    {0x9F00F400, 0x0F00E000, EO_DOT},          /* SDOT, UDOT by element */
    {0xBF40F400, 0x0F00F000, EO_DOT},          /* SUDOT, USDOT by element */
    {0xBFE0FC00, 0x2E40FC00, EO_DOT},          /* BFDOT */
    {0xBFC0F400, 0x0F40F000, EO_DOT},          /* BFDOT by element */
    {0xDFE0F400, 0x4E80A400, EO_DOT},          /* SMMLA, UMMLA, USMMLA */
    {0xFFE0FC00, 0x6E40EC00, EO_DOT},          /* BFMMLA */
    {0xFF000000, 0x1F000000, EO_MULTIPLY_ADD}, /* FMADD, FMSUB, FNMADD, FNMSUB */
    {0xBF20FC00, 0x0E20CC00, EO_MULTIPLY_ADD}, /* FMLA, FMLS */
    {0xBF60FC00, 0x0E400C00, EO_MULTIPLY_ADD}, /* FMLA, FMLS of halves */
    {0xBF80B400, 0x0F801000, EO_MULTIPLY_ADD}, /* FMLA, FMLS by element */
    {0xBFC0B400, 0x0F001000, EO_MULTIPLY_ADD}, /* FMLA, FMLS of halves by element */
    {0xBF60FC00, 0x0E20EC00, EO_MULTIPLY_ADD}, /* FMLAL, FMLSL */
    {0xBF60FC00, 0x2E20CC00, EO_MULTIPLY_ADD}, /* FMLAL2, FMLSL2 */
    {0xBFE0FC00, 0x2EC0FC00, EO_MULTIPLY_ADD}, /* BFMLALB, BFMLALT */
    {0x9F20FC00, 0x0E209400, EO_MULTIPLY_ADD}, /* MLA, MLS */
    {0xBF00B400, 0x2F000000, EO_MULTIPLY_ADD}, /* MLA, MLS by element */
    {0x9F20DC00, 0x0E208000, EO_MULTIPLY_ADD}, /* SMLAL, UMLAL, SMLSL, UMLSL */
    {0x9F00B400, 0x0F002000, EO_MULTIPLY_ADD}, /* the same by element */
    {0x9F3FFC00, 0x0E206800, EO_MULTIPLY_ADD}, /* SADALP, UADALP */
};

/* C4.1.2, "SVE encodings". */
static const struct pattern SVE[] = {
    {0xFF20F800, 0x44000000, EO_DOT},          /* SDOT, UDOT */
    {0xFF20F800, 0x44200000, EO_DOT},          /* SDOT, UDOT by element */
    {0xFFE0FC00, 0x44807800, EO_DOT},          /* USDOT */
    {0xFFE0F800, 0x44A01800, EO_DOT},          /* USDOT, SUDOT by element */
    {0xFF20FC00, 0x45009800, EO_DOT},          /* SMMLA, UMMLA, USMMLA */
    {0xFF20C000, 0x65200000, EO_MULTIPLY_ADD}, /* FMLA, FMLS */
    {0xFF20C000, 0x65208000, EO_MULTIPLY_ADD}, /* FMAD, FMSB */
    {0xFF20F800, 0x64200000, EO_MULTIPLY_ADD}, /* FMLA, FMLS by element */
};

static enum eo_class matched(const struct pattern *patterns, size_t count, uint32_t word)
{
    for (size_t i = 0; i < count; i++) {
        if ((word & patterns[i].mask) == patterns[i].value) {
            return patterns[i].is;
        }
    }
    return EO_VECTOR;
}

/* C4.1.94, "Loads and Stores". */
static enum eo_class access_of(uint32_t word)
{
    const bool is_vector = (word >> 26 & 1) != 0;
    const uint32_t form = word >> 28 & 3, opc = word >> 22 & 3;
    bool is_load = (opc & 1) != 0; /* L, or the lower bit of opc */

    if (form == 1) {                             /* literals; with bit 24 the LDAPR and STLR kind */
        is_load = (word >> 24 & 1) == 0 || opc != 0;
    } else if (form == 3 && !is_vector && opc != 0) {
        is_load = true;                          /* sign-extending loads; atomics that acquire */
    }
    if (is_vector) {
        return is_load ? EO_VECTOR_LOAD : EO_VECTOR_STORE;
    }
    return is_load ? EO_LOAD : EO_STORE;
}

enum eo_class eo_class_of(uint32_t word)
{
    const uint32_t group = word >> 25 & 15;

    if ((group & 5) == 4) {
        return access_of(word);
    }
    if ((group & 14) == 10) {
        return EO_BRANCH;
    }
    if ((group & 7) == 7) {
        return matched(ADVANCED_SIMD, sizeof ADVANCED_SIMD / sizeof *ADVANCED_SIMD, word);
    }
    if (group == 2) {
        if (word >> 31 != 0) {
            return word >> 29 == 7 ? EO_VECTOR_STORE : EO_VECTOR_LOAD;
        }
        return matched(SVE, sizeof SVE / sizeof *SVE, word);
    }
    return EO_INTEGER;
}
