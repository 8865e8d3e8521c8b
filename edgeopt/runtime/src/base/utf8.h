/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* UTF-8 as RFC 3629 has it. */
#ifndef EO_UTF8_H
#define EO_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The bytes of the sequence at `at`, of which `left` > 0 bytes may be read; 0 if it is none. */
uint32_t eo_utf8_bytes(const unsigned char *at, size_t left);

/* Reads the character at `*at` (< end) and moves on. What is no UTF-8 gives U+FFFD for each longest
 * start of a sequence, as bytes.decode("utf-8", errors="replace") does. */
#define EO_REPLACEMENT 0xfffdU
uint32_t eo_utf8_next(const char *text, size_t end, size_t *at);

/* Writes `code` as UTF-8; returns its bytes. */
uint32_t eo_utf8_write(uint32_t code, char out[4]);

#endif
