/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Hashes messages by one way: sha256_main portable | native | chosen.
 *
 * On stdin each message has its length and that of the pieces in which it is added, as 32 bits,
 * then its bytes; stdout has its digest in hex on a line. Exit status 3: this CPU has no native
 * way. */
#include "base/sha256.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_number(uint32_t *number)
{
    uint8_t bytes[4];

    if (fread(bytes, 1, sizeof bytes, stdin) != sizeof bytes) {
        return 0;
    }
    *number = bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
              (uint32_t)bytes[3] << 24;
    return 1;
}

static int is(const char *text, const char *word)
{
    return strcmp(text, word) == 0;
}

int main(int argc, char **argv)
{
    uint32_t length, piece;

    if (argc != 2 || !(is(argv[1], "portable") || is(argv[1], "native") || is(argv[1], "chosen"))) {
        return 2;
    }
    if (is(argv[1], "native") && eo_sha256_native() == NULL) {
        return 3;
    }
    while (read_number(&length) && read_number(&piece)) {
        uint8_t *message = malloc(length), digest[EO_SHA256_DIGEST]; /* to the byte, for ASan */
        struct eo_sha256 sha;

        if ((message == NULL && length > 0) || fread(message, 1, length, stdin) != length) {
            return 2;
        }
        eo_sha256_begin(&sha);
        if (is(argv[1], "portable")) {
            sha.hash = eo_sha256_portable;
        } else if (is(argv[1], "native")) {
            sha.hash = eo_sha256_native();
        }
        for (uint32_t at = 0; at < length; at += piece) {
            eo_sha256_add(&sha, message + at, length - at < piece ? length - at : piece);
        }
        eo_sha256_end(&sha, digest);
        free(message);
        for (size_t i = 0; i < sizeof digest; i++) {
            printf("%02x", digest[i]);
        }
        puts("");
    }
    return 0;
}
