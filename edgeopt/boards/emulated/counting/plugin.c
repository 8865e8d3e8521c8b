/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0
 *
 * Counts the instructions that a program executes under QEMU's user-mode emulation. The plugin's
 * arguments are out=PATH and, if lines of caches count too, caches=GEOMETRY (caches.h). Whenever
 * the program reads the CPU time of its process, a line is added to that file: how many
 * instructions were executed until then, with A64 how many of each class, and with a geometry each
 * level's refills and the last one's write-backs. The agent's one timing loop reads that clock right
 * before and right after each run, and nowhere else, so that the difference of two lines is one
 * inference (runtime/agent/measure.c). */
#include "caches.h"
#include "classes.h"
#include "tally.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define CPU_TIME_OF_PROCESS 2 /* CLOCK_PROCESS_CPUTIME_ID, <linux/time.h> */

enum { TOTAL = EO_CLASSES }; /* the tally after those of the classes */
_Static_assert((int)TOTAL < (int)EO_MOST_TALLIES, "there are tallies for all classes");

static struct eo_caches caches; /* none without a geometry */
static bool is_a64;
static const char *out;

static void accessed(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t address, void *own)
{
    (void)vcpu, (void)own;
    eo_caches_access(&caches, address, (size_t)1 << qemu_plugin_mem_size_shift(info),
                     qemu_plugin_mem_is_store(info));
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    const size_t count = qemu_plugin_tb_n_insns(tb);
    uint64_t found[EO_CLASSES] = {0};

    (void)id;
    for (size_t i = 0; caches.count != 0 && i < count; i++) {
        qemu_plugin_register_vcpu_mem_cb(qemu_plugin_tb_get_insn(tb, i), accessed,
                                         QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_MEM_RW, NULL);
    }
    for (size_t i = 0; is_a64 && i < count; i++) {
        found[eo_class_of(eo_tally_word(qemu_plugin_tb_get_insn(tb, i)))]++;
    }
    eo_tally_add(tb, TOTAL, count);
    for (size_t i = 0; i < EO_CLASSES; i++) {
        if (found[i] != 0) {
            eo_tally_add(tb, i, found[i]);
        }
    }
}

/* <asm-generic/unistd.h> for A64; for Arm clock_gettime, and clock_gettime64 of <asm/unistd.h>. */
static bool reads_a_clock(int64_t number)
{
    return is_a64 ? number == 113 : number == 263 || number == 403;
}

/* The file is opened each time: its descriptor would be one of the program's, too. */
static void called(qemu_plugin_id_t id, unsigned int vcpu, int64_t number, uint64_t a1, uint64_t a2,
                   uint64_t a3, uint64_t a4, uint64_t a5, uint64_t a6, uint64_t a7, uint64_t a8)
{
    FILE *file;

    (void)id, (void)vcpu, (void)a2, (void)a3, (void)a4, (void)a5, (void)a6, (void)a7, (void)a8;
    if (!reads_a_clock(number) || a1 != CPU_TIME_OF_PROCESS || (file = fopen(out, "a")) == NULL) {
        return; /* who reads the file notices that lines are missing */
    }
    fprintf(file, "%" PRIu64, eo_tally_of(TOTAL));
    for (size_t i = 0; is_a64 && i < EO_CLASSES; i++) {
        fprintf(file, " %" PRIu64, eo_tally_of(i));
    }
    for (size_t i = 0; i < caches.count; i++) {
        fprintf(file, " %" PRIu64, caches.levels[i].refills);
    }
    if (caches.count != 0) {
        fprintf(file, " %" PRIu64, caches.levels[caches.count - 1].write_backs);
    }
    fputc('\n', file);
    fclose(file);
}

EO_EXPORTED int qemu_plugin_version = EO_PLUGIN_VERSION;

EO_EXPORTED int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
                                    char **argv)
{
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], "out=", 4) == 0) {
            out = argv[i] + 4;
        } else if (strncmp(argv[i], "caches=", 7) == 0 && !eo_caches_open(&caches, argv[i] + 7)) {
            fprintf(stderr, "edgeopt: %s is no geometry of caches\n", argv[i] + 7);
            return 1;
        }
    }
    if (!eo_tally_open()) {
        fprintf(stderr, "edgeopt: no memory to count in\n");
        return 1;
    }
    if (out == NULL || info->system_emulation) {
        fprintf(stderr, "edgeopt: the plugin counts user-mode programs and takes out=PATH\n");
        return 1;
    }
    is_a64 = strcmp(info->target_name, "aarch64") == 0;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_vcpu_syscall_cb(id, called);
    return 0;
}
