/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target without libFuzzer: mutates the files of a folder, from a seed.
 *
 *     fuzz CORPUS SEED SECONDS
 *
 * The input at hand is in the file `last-input` of the working directory when a target ends the
 * program. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_FILES 256
#define MAX_BYTES 65536U

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    uint8_t *data;
    size_t size;
};

/* xorshift64*; Vigna, "An experimental exploration of Marsaglia's xorshift generators" (2016). */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1dU >> 16;
}

static size_t below(uint64_t *state, size_t limit)
{
    return limit == 0 ? 0 : (size_t)(next_random(state) % limit);
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* Reads the files in the order of their names, so that a seed means the same everywhere. */
static size_t read_corpus(const char *folder, struct input *inputs)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, NULL, compare_names);
    size_t found = 0;

    for (int i = 0; i < count; i++) {
        char path[4096];
        FILE *file;
        (void)snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name);
        file = entries[i]->d_name[0] == '.' || found == MAX_FILES ? NULL : fopen(path, "rb");
        free(entries[i]);
        if (file != NULL) {
            inputs[found].data = malloc(MAX_BYTES);
            if (inputs[found].data != NULL) {
                inputs[found].size = fread(inputs[found].data, 1, MAX_BYTES, file);
                found++;
            }
            (void)fclose(file);
        }
    }
    if (count >= 0) {
        free(entries);
    }
    return found;
}

/* Moves what is at `from` on to `to` within the input; it is cut at MAX_BYTES. */
static void move_tail(struct input *input, size_t from, size_t to)
{
    size_t bytes = input->size - from;

    if (bytes > MAX_BYTES - to) {
        bytes = MAX_BYTES - to;
    }
    memmove(input->data + to, input->data + from, bytes);
    input->size = to + bytes;
}

static void mutate(struct input *input, const struct input *other, uint64_t *state)
{
    size_t at = below(state, input->size), bytes = 1 + below(state, 32);
    size_t from = below(state, other->size);

    bytes = bytes > other->size - from ? other->size - from : bytes;
    switch (below(state, 6)) {
    case 0: /* a bit */
        if (input->size > 0) {
            input->data[at] ^= (uint8_t)(1U << below(state, 8));
        }
        break;
    case 1: /* a byte */
        if (input->size > 0) {
            input->data[at] = (uint8_t)next_random(state);
        }
        break;
    case 2: /* less */
        bytes = bytes > input->size - at ? input->size - at : bytes;
        move_tail(input, at + bytes, at);
        break;
    case 3: /* cut off */
        input->size = at;
        break;
    case 4: /* some of the other input in between */
        if (at + bytes <= MAX_BYTES) {
            move_tail(input, at, at + bytes);
            memcpy(input->data + at, other->data + from, bytes);
        }
        break;
    default: /* some of the other input instead */
        bytes = bytes > input->size - at ? input->size - at : bytes;
        memcpy(input->data + at, other->data + from, bytes);
    }
}

static int keep(FILE *file, const struct input *input)
{
    rewind(file);
    return fwrite(input->data, 1, input->size, file) == input->size && fflush(file) == 0 &&
                   ftruncate(fileno(file), (off_t)input->size) == 0
               ? 0
               : -1;
}

int main(int argc, char **argv)
{
    static struct input inputs[MAX_FILES];
    size_t count = argc == 4 ? read_corpus(argv[1], inputs) : 0;
    uint64_t state = argc == 4 ? strtoull(argv[2], NULL, 10) * 2 + 1 : 0;
    time_t end = time(NULL) + (argc == 4 ? atoi(argv[3]) : 0);
    unsigned long long runs = 0;

    FILE *last = count == 0 ? NULL : fopen("last-input", "wb");

    if (last == NULL) {
        fprintf(stderr, "usage: fuzz CORPUS SEED SECONDS, with files in CORPUS, in a folder to write to\n");
        return 2;
    }
    while (time(NULL) < end) {
        const struct input *seed = &inputs[below(&state, count)];
        struct input input = {malloc(MAX_BYTES), seed->size};
        uint8_t *exact;
        if (input.data == NULL) {
            return 3;
        }
        memcpy(input.data, seed->data, seed->size);
        for (size_t i = below(&state, 8); i > 0; i--) {
            mutate(&input, &inputs[below(&state, count)], &state);
        }
        exact = malloc(input.size + (input.size == 0)); /* so that reading on is seen */
        if (exact == NULL || keep(last, &input) != 0) {
            return 3;
        }
        memcpy(exact, input.data, input.size);
        (void)LLVMFuzzerTestOneInput(exact, input.size);
        runs++;
        free(exact);
        free(input.data);
    }
    (void)fclose(last);
    for (size_t i = 0; i < count; i++) {
        free(inputs[i].data);
    }
    printf("%llu inputs\n", runs);
    return 0;
}
