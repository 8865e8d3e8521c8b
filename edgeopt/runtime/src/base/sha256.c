/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "base/sha256.h"

#include <string.h>

void eo_sha256_begin(struct eo_sha256 *sha)
{
    /* FIPS 180-4, 5.3.3 */
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    eo_sha256_hash *native = eo_sha256_native();

    memcpy(sha->state, initial, sizeof sha->state);
    sha->bytes = 0;
    sha->hash = native != NULL ? native : eo_sha256_portable;
}

void eo_sha256_add(struct eo_sha256 *sha, const void *data, size_t bytes)
{
    const uint8_t *at = data;
    const size_t held = (size_t)(sha->bytes % EO_SHA256_BLOCK);
    size_t whole;

    if (bytes == 0) {
        return; /* data may be NULL then */
    }
    sha->bytes += bytes;
    if (held > 0) {
        const size_t room = EO_SHA256_BLOCK - held, taken = bytes < room ? bytes : room;
        memcpy(sha->block + held, at, taken);
        if (taken < room) {
            return;
        }
        sha->hash(sha->state, sha->block, 1);
        at += taken;
        bytes -= taken;
    }
    whole = bytes / EO_SHA256_BLOCK;
    if (whole > 0) {
        sha->hash(sha->state, at, whole);
        at += whole * EO_SHA256_BLOCK;
    }
    memcpy(sha->block, at, bytes % EO_SHA256_BLOCK);
}

/* A bit 1, zeros, and the length in bits as 64 of them fill the last block (FIPS 180-4, 5.1.1). */
void eo_sha256_end(struct eo_sha256 *sha, uint8_t digest[EO_SHA256_DIGEST])
{
    enum { LENGTH_AT = EO_SHA256_BLOCK - 8 };
    uint64_t bits = sha->bytes * 8;
    size_t held = (size_t)(sha->bytes % EO_SHA256_BLOCK);

    sha->block[held++] = 0x80;
    if (held > LENGTH_AT) {
        memset(sha->block + held, 0, EO_SHA256_BLOCK - held);
        sha->hash(sha->state, sha->block, 1);
        held = 0;
    }
    memset(sha->block + held, 0, LENGTH_AT - held);
    for (int i = EO_SHA256_BLOCK - 1; i >= LENGTH_AT; i--, bits >>= 8) {
        sha->block[i] = (uint8_t)bits;
    }
    sha->hash(sha->state, sha->block, 1);
    for (int i = 0; i < 8; i++) {
        for (int j = 0; j < 4; j++) {
            digest[4 * i + j] = (uint8_t)(sha->state[i] >> (24 - 8 * j));
        }
    }
}
