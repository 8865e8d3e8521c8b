/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

/* What stands behind `key` and a colon in a file of /proc, into `text`; empty if it does not. */
static void value_of(const char *path, const char *key, char *text, size_t size)
{
    char line[4096];
    FILE *file = fopen(path, "r");

    text[0] = '\0';
    if (file == NULL) {
        return;
    }
    while (text[0] == '\0' && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            const char *value = line + strlen(key);
            value += strspn(value, ": \t");
            (void)snprintf(text, size, "%.*s", (int)strcspn(value, "\n"), value);
        }
    }
    (void)fclose(file); /* it was read only */
}

static int64_t status_bytes(const char *key)
{
    char text[64];
    char *end = text;
    long long kib;

    value_of("/proc/self/status", key, text, sizeof text);
    kib = strtoll(text, &end, 10);
    return end != text && kib >= 0 && kib < INT64_MAX / 1024 ? (int64_t)kib * 1024 : -1;
}

void eo_process_cpus(char *text, size_t size)
{
    value_of("/proc/self/status", "Cpus_allowed_list:", text, size);
}

int64_t eo_process_rss_bytes(void)
{
    return status_bytes("VmRSS:");
}

int64_t eo_process_peak_bytes(void)
{
    return status_bytes("VmHWM:");
}

#if defined(__aarch64__)
/* Names in the order of the bits. Source: Linux, Documentation/arch/arm64/elf_hwcaps.rst and
 * arch/arm64/kernel/cpuinfo.c (hwcap_str). */
static const char *const hwcap_names[] = {
    "fp",    "asimd",  "evtstrm", "aes",  "pmull",   "sha1",    "sha2",  "crc32",
    "atomics", "fphp", "asimdhp", "cpuid", "asimdrdm", "jscvt", "fcma",  "lrcpc",
    "dcpop", "sha3",   "sm3",     "sm4",  "asimddp", "sha512",  "sve",   "asimdfhm",
    "dit",   "uscat",  "ilrcpc",  "flagm", "ssbs",   "sb",      "paca",  "pacg"};
static const char *const hwcap2_names[] = {
    "dcpodp", "sve2",  "sveaes",   "svepmull", "svebitperm", "svesha3", "svesm4", "flagm2", "frint",
    "svei8mm", "svef32mm", "svef64mm", "svebf16", "i8mm",    "bf16",    "dgh",    "rng",    "bti"};

static size_t add_names(char *text, size_t size, size_t used, uint64_t bits,
                        const char *const *names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if ((bits >> i & 1) != 0) {
            int wrote = snprintf(text + used, size - used, "%s%s", used == 0 ? "" : " ", names[i]);
            if (wrote < 0 || (size_t)wrote >= size - used) {
                return used;
            }
            used += (size_t)wrote;
        }
    }
    return used;
}

void eo_process_features(char *text, size_t size)
{
    size_t used;

    text[0] = '\0';
    used = add_names(text, size, 0, getauxval(AT_HWCAP), hwcap_names,
                     sizeof hwcap_names / sizeof hwcap_names[0]);
    used = add_names(text, size, used, getauxval(AT_HWCAP2), hwcap2_names,
                     sizeof hwcap2_names / sizeof hwcap2_names[0]);
    text[used] = '\0';
}
#else
void eo_process_features(char *text, size_t size)
{
    value_of("/proc/cpuinfo", "Features", text, size);
    if (text[0] == '\0') {
        value_of("/proc/cpuinfo", "flags", text, size); /* x86's word */
    }
}
#endif
