/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tally.h"

#include <string.h>

#if EO_PLUGIN_VERSION == 1

static uint64_t tallies[EO_MOST_TALLIES];

bool eo_tally_open(void)
{
    return true;
}

void eo_tally_add(struct qemu_plugin_tb *tb, size_t which, uint64_t value)
{
    qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &tallies[which],
                                             value);
}

uint64_t eo_tally_of(size_t which)
{
    return tallies[which];
}

static size_t read_bytes(const struct qemu_plugin_insn *insn, uint8_t *to, size_t count)
{
    const size_t size = qemu_plugin_insn_size(insn);
    count = size < count ? size : count;
    memcpy(to, qemu_plugin_insn_data(insn), count);
    return count;
}

#else

static struct qemu_plugin_scoreboard *tallies;

static qemu_plugin_u64 entry(size_t which)
{
    return (qemu_plugin_u64){.score = tallies, .offset = which * sizeof(uint64_t)};
}

bool eo_tally_open(void)
{
    tallies = qemu_plugin_scoreboard_new(EO_MOST_TALLIES * sizeof(uint64_t));
    return tallies != NULL;
}

void eo_tally_add(struct qemu_plugin_tb *tb, size_t which, uint64_t value)
{
    qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64, entry(which),
                                                      value);
}

uint64_t eo_tally_of(size_t which)
{
    return qemu_plugin_u64_sum(entry(which));
}

static size_t read_bytes(const struct qemu_plugin_insn *insn, uint8_t *to, size_t count)
{
    return qemu_plugin_insn_data(insn, to, count);
}

#endif

uint32_t eo_tally_word(const struct qemu_plugin_insn *insn)
{
    uint8_t bytes[4] = {0};
    const size_t count = read_bytes(insn, bytes, sizeof bytes);
    uint32_t word = 0;

    for (size_t i = 0; i < count; i++) {
        word |= (uint32_t)bytes[i] << (8 * i);
    }
    return word;
}
