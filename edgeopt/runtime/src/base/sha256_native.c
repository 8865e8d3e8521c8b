/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 by the instructions that x86-64 and ARMv8 have for it. What each computes is taken from
 * its page in the manual: SHA256RNDS2, SHA256MSG1 and SHA256MSG2 in volume 2 of Intel's Software
 * Developer's Manual; SHA256H, SHA256H2, SHA256SU0 and SHA256SU1 in Arm's Architecture Reference
 * Manual for A-profile (DDI 0487). The schedule is in groups of four words, 16 of them: group[i]
 * holds W(4i) to W(4i + 3), the first in the lowest lane. */
#include "base/sha256.h"

enum { GROUPS = 16, GIVEN = 4 };

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define NATIVE __attribute__((target("sha,sse4.1")))

NATIVE static __m128i load(const void *words)
{
    return _mm_loadu_si128((const __m128i *)words);
}

/* W(t) to W(t + 3) of the sixteen before them. MSG1 adds sigma0 of each one's next word, MSG2
 * sigma1 of those two before, the first two of which it has just made. */
NATIVE static __m128i schedule(const __m128i before[4])
{
    const __m128i seven_before = _mm_alignr_epi8(before[3], before[2], 4);
    const __m128i sum = _mm_add_epi32(_mm_sha256msg1_epu32(before[0], before[1]), seven_before);

    return _mm_sha256msg2_epu32(sum, before[3]);
}

/* RNDS2 wants a, b, e, f in one register, from the highest lane on, and c, d, g, h in another. It
 * does two rounds with the two lowest lanes of what is added, and gives the new a, b, e, f; the old
 * ones are then c, d, g, h. */
NATIVE static void hash(uint32_t state[8], const uint8_t *data, size_t count)
{
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    const __m128i abcd = load(state), efgh = load(state + 4); /* a in the lowest lane */
    const __m128i badc = _mm_shuffle_epi32(abcd, _MM_SHUFFLE(2, 3, 0, 1));
    const __m128i fehg = _mm_shuffle_epi32(efgh, _MM_SHUFFLE(2, 3, 0, 1));
    __m128i abef = _mm_unpacklo_epi64(fehg, badc), cdgh = _mm_unpackhi_epi64(fehg, badc);

    for (; count > 0; count--, data += EO_SHA256_BLOCK) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i group[GROUPS];
        for (int i = 0; i < GROUPS; i++) {
            __m128i sum;
            group[i] = i < GIVEN ? _mm_shuffle_epi8(load(data + 16 * i), big_endian)
                                 : schedule(group + i - GIVEN);
            sum = _mm_add_epi32(group[i], load(eo_sha256_constants + 4 * i));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            sum = _mm_unpackhi_epi64(sum, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, sum);
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    abef = _mm_shuffle_epi32(abef, _MM_SHUFFLE(0, 1, 2, 3)); /* a in the lowest lane again */
    cdgh = _mm_shuffle_epi32(cdgh, _MM_SHUFFLE(0, 1, 2, 3));
    _mm_storeu_si128((__m128i *)(void *)state, _mm_unpacklo_epi64(abef, cdgh));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_unpackhi_epi64(abef, cdgh));
}

eo_sha256_hash *eo_sha256_native(void)
{
    unsigned a, b, c, d;

    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & bit_SSE4_1) == 0 ||
        !__get_cpuid_count(7, 0, &a, &b, &c, &d) || (b & bit_SHA) == 0) {
        return NULL;
    }
    return hash;
}
#elif defined(__aarch64__) && defined(__linux__)
#include <arm_neon.h>
#include <sys/auxv.h>

#if defined(__clang__)
#define NATIVE __attribute__((target("sha2")))
#else
#define NATIVE __attribute__((target("+crypto")))
#endif

/* W(t) to W(t + 3) of the sixteen before them: SU0 adds sigma0, SU1 sigma1 and the words seven
 * before. */
NATIVE static uint32x4_t schedule(const uint32x4_t before[4])
{
    return vsha256su1q_u32(vsha256su0q_u32(before[0], before[1]), before[2], before[3]);
}

/* SHA256H and SHA256H2 do four rounds: the one gives a to d, the other e to h. */
NATIVE static void hash(uint32_t state[8], const uint8_t *data, size_t count)
{
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);

    for (; count > 0; count--, data += EO_SHA256_BLOCK) {
        const uint32x4_t abcd_before = abcd, efgh_before = efgh;
        uint32x4_t group[GROUPS];
        for (int i = 0; i < GROUPS; i++) {
            const uint32x4_t abcd_now = abcd;
            uint32x4_t sum;
            group[i] = i < GIVEN ? vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)))
                                 : schedule(group + i - GIVEN);
            sum = vaddq_u32(group[i], vld1q_u32(eo_sha256_constants + 4 * i));
            abcd = vsha256hq_u32(abcd, efgh, sum);
            efgh = vsha256h2q_u32(efgh, abcd_now, sum);
        }
        abcd = vaddq_u32(abcd, abcd_before);
        efgh = vaddq_u32(efgh, efgh_before);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

eo_sha256_hash *eo_sha256_native(void)
{
    enum { HAS_SHA2 = 1 << 6 }; /* HWCAP_SHA2 in Linux's asm/hwcap.h */

    return (getauxval(AT_HWCAP) & HAS_SHA2) != 0 ? hash : NULL;
}
#else
eo_sha256_hash *eo_sha256_native(void)
{
    return NULL;
}
#endif
