/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0
 *
 * What differs between the versions of QEMU's plugin interface: where executed instructions are
 * added up, and how an instruction's bytes are read. */
#ifndef EO_TALLY_H
#define EO_TALLY_H

#include "qemu_plugin.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EO_MOST_TALLIES = 16 };

/* Makes the tallies, zeros at first. Returns false if memory ran out. */
bool eo_tally_open(void);

/* Adds `value` to tally `which` whenever the block runs. */
void eo_tally_add(struct qemu_plugin_tb *tb, size_t which, uint64_t value);

/* Returns what was added to tally `which` until now, by all threads. */
uint64_t eo_tally_of(size_t which);

/* Returns the first four bytes of an instruction as A64 has them, little-endian. */
uint32_t eo_tally_word(const struct qemu_plugin_insn *insn);

#endif
