/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0
 *
 * What we use of QEMU's plugin interface, written down from its documentation
 * (docs/devel/tcg-plugins.rst, "API"): version 1 (QEMU 6.0 to 8.2), or 3 (9.1 and later, which take
 * it for a part of theirs). QEMU refuses a plugin of a version that it has not. */
#ifndef EO_QEMU_PLUGIN_H
#define EO_QEMU_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef EO_PLUGIN_VERSION
#define EO_PLUGIN_VERSION 1
#endif
#define EO_EXPORTED __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

typedef struct qemu_info_t {
    const char *target_name; /* "aarch64", "arm" */
    struct {
        int min;
        int cur;
    } version;
    bool system_emulation;
    struct {
        int smp_vcpus;
        int max_vcpus;
    } system; /* of system emulation only */
} qemu_info_t;

typedef uint32_t qemu_plugin_meminfo_t;

/* A uint64_t in each thread's element of a scoreboard (version 2 and later). */
typedef struct {
    struct qemu_plugin_scoreboard *score;
    size_t offset;
} qemu_plugin_u64;

enum qemu_plugin_mem_rw { QEMU_PLUGIN_MEM_R = 1, QEMU_PLUGIN_MEM_W, QEMU_PLUGIN_MEM_RW };
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void (*qemu_plugin_vcpu_tb_trans_cb_t)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*qemu_plugin_vcpu_syscall_cb_t)(qemu_plugin_id_t id, unsigned int vcpu, int64_t number,
                                              uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                                              uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8);

typedef void (*qemu_plugin_vcpu_mem_cb_t)(unsigned int vcpu, qemu_plugin_meminfo_t info,
                                          uint64_t address, void *own);

/* Called for each block that is translated; what it registers happens whenever the block runs. */
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_tb_trans_cb_t cb);
void qemu_plugin_register_vcpu_syscall_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_syscall_cb_t cb);
#if EO_PLUGIN_VERSION == 1
/* Adds "value" to a uint64_t at "at", not atomically: with several threads additions may be lost. */
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op,
                                              void *at, uint64_t value);
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#else
/* An element of so many bytes for each thread, zeros at first. */
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t bytes);
/* Adds "value" to that element of the thread which executes the block. */
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb,
                                                       enum qemu_plugin_op op, qemu_plugin_u64 at,
                                                       uint64_t value);
uint64_t qemu_plugin_u64_sum(qemu_plugin_u64 at); /* over all threads */
/* Returns how many bytes were copied. */
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *to, size_t bytes);
#endif
/* Called at each load or store of the instruction, one that faults apart. */
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *insn, qemu_plugin_vcpu_mem_cb_t cb,
                                      enum qemu_plugin_cb_flags flags, enum qemu_plugin_mem_rw rw,
                                      void *own);
unsigned int qemu_plugin_mem_size_shift(qemu_plugin_meminfo_t info); /* log2 of bytes */
bool qemu_plugin_mem_is_store(qemu_plugin_meminfo_t info);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t index);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

/* What a plugin exports. */
extern EO_EXPORTED int qemu_plugin_version;
EO_EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                    char **argv);

#endif
