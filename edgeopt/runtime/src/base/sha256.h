/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4), by the CPU's own instructions if it has them.
 *
 * All of sha256*.c was written from the standard and from the instruction manuals, not from sample
 * code. */
#ifndef EO_SHA256_H
#define EO_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { EO_SHA256_BLOCK = 64, EO_SHA256_DIGEST = 32 };

/* Hashes `count` whole blocks of `data` into `state` (FIPS 180-4, 6.2.2). */
typedef void eo_sha256_hash(uint32_t state[8], const uint8_t *data, size_t count);

struct eo_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[EO_SHA256_BLOCK]; /* the last bytes % EO_SHA256_BLOCK */
    eo_sha256_hash *hash;           /* one of the two below */
};

void eo_sha256_begin(struct eo_sha256 *sha);
void eo_sha256_add(struct eo_sha256 *sha, const void *data, size_t bytes);
void eo_sha256_end(struct eo_sha256 *sha, uint8_t digest[EO_SHA256_DIGEST]);

/* An eo_sha256_hash that runs everywhere. */
void eo_sha256_portable(uint32_t state[8], const uint8_t *data, size_t count);

/* The one by this CPU's instructions; NULL if it has none that are known here. */
eo_sha256_hash *eo_sha256_native(void);

extern const uint32_t eo_sha256_constants[64];

#endif
