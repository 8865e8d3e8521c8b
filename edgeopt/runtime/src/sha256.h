/* SHA-256 (FIPS 180-4), with the CPU's own instructions where it has them. */
#ifndef EO_SHA256_H
#define EO_SHA256_H

#include <stddef.h>
#include <stdint.h>

struct eo_sha256 {
    uint32_t state[8];
    uint64_t bytes;
    uint8_t block[64]; /* the last bytes % 64 */
};

void eo_sha256_begin(struct eo_sha256 *sha);
void eo_sha256_add(struct eo_sha256 *sha, const void *data, size_t bytes);
void eo_sha256_end(struct eo_sha256 *sha, uint8_t digest[32]);

#endif
