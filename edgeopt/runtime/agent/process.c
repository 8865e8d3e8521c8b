/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "process.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

static int64_t status_bytes(const char *key)
{
    char line[256];
    int64_t bytes = -1;
    FILE *file = fopen("/proc/self/status", "r");

    if (file == NULL) {
        return -1;
    }
    while (bytes < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, strlen(key)) == 0) {
            char *end = NULL;
            long long kib = strtoll(line + strlen(key), &end, 10);
            if (end != line + strlen(key) && kib >= 0 && kib < INT64_MAX / 1024) {
                bytes = (int64_t)kib * 1024;
            }
        }
    }
    return fclose(file) == 0 ? bytes : -1;
}

void eo_process_cpus(char *text, size_t size)
{
    static const char key[] = "Cpus_allowed_list:";
    char line[256];
    FILE *file = fopen("/proc/thread-self/status", "r");

    text[0] = '\0';
    if (file == NULL) {
        return;
    }
    while (text[0] == '\0' && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, key, sizeof key - 1) == 0) {
            const char *value = line + sizeof key - 1 + strspn(line + sizeof key - 1, " \t");
            (void)snprintf(text, size, "%.*s", (int)strcspn(value, "\n"), value);
        }
    }
    (void)fclose(file); /* it was read only */
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
    char line[4096];
    FILE *file = fopen("/proc/cpuinfo", "r");

    text[0] = '\0';
    if (file == NULL) {
        return;
    }
    while (text[0] == '\0' && fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (colon != NULL && (strncmp(line, "flags", 5) == 0 || strncmp(line, "Features", 8) == 0)) {
            colon[strcspn(colon, "\n")] = '\0';
            if (snprintf(text, size, "%s", colon + 1 + strspn(colon + 1, " ")) < 0) {
                text[0] = '\0';
            }
        }
    }
    if (fclose(file) != 0) {
        text[0] = '\0';
    }
}
#endif
