/* UTF-8 as RFC 3629 has it. */
#ifndef EO_UTF8_H
#define EO_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* The bytes of the sequence at `at`, of which `left` > 0 bytes may be read; 0 where it is none. */
uint32_t eo_utf8_bytes(const unsigned char *at, size_t left);

#endif
