/* SPDX-FileCopyrightText: edgeopt contributors
 * SPDX-License-Identifier: Apache-2.0 */
#include "tasks/cascade_read.h"

#include "base/json_tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_BYTES = 16384, SHOWN_BYTES = 60 }; /* of the file at most: it has some 700 */

/* Reading goes on after a failure and finds nothing more to do: the first failure stands. */
struct reader {
    const struct eo_json_tree *tree;
    struct eo_arena *arena;
    const char *path;
    const char *table; /* "" or "first.": where the keys stand */
    struct eo_failure *failure;
    int result;
};

/* What load() of edgeopt/run/early_exit.py takes. */
static const struct range {
    char key[16];
    bool whole;
    double low;
    double high;
} ranges[] = {
    {"schema_version", true, 1, 0x1p53}, /* first: another version has other keys */
    {"temperature", false, 1e-9, 1e9},
    {"threshold", false, 0, 2},
    {"max_drop", false, 0, 1},
    {"doubt", false, 0, 1},
    {"chosen_on", true, 1, 0x1p53},
    {"spoilt", true, 0, 0x1p53},
    {"early", false, 0, 1},
    {"accuracy", false, 0, 1},
    {"accuracy_first", false, 0, 1},
    {"accuracy_second", false, 0, 1},
    {"texts", true, 1, 0x1p53},
};
enum { SCHEMA, TEMPERATURE, THRESHOLD, RANGES = sizeof ranges / sizeof ranges[0] };

static const char *const other_keys[] = {"first", "second", "measure", NULL};
static const char *const part_keys[] = {"name", "digest", "engine", "precision", NULL};

static void wrong(struct reader *reader, uint32_t node, const char *key, const char *expected)
{
    const struct eo_json_node *found = &reader->tree->nodes[node];
    const uint32_t quote = found->type == EO_JSON_STRING;
    const uint32_t bytes = found->end - found->begin + 2 * quote;

    if (reader->result != EO_OK) {
        return;
    }
    reader->result =
        node == 0 ? eo_fail(reader->failure, EO_EINPUT, reader->path,
                            "%s%s: is missing, expected %s", reader->table, key, expected)
                  : eo_fail(reader->failure, EO_EINPUT, reader->path,
                            "%s%s: expected %s, found %.*s", reader->table, key, expected,
                            (int)(bytes < SHOWN_BYTES ? bytes : SHOWN_BYTES),
                            reader->tree->text + found->begin - quote);
}

static double read_number(struct reader *reader, const struct range *range)
{
    uint32_t node = eo_json_member(reader->tree, 0, range->key);
    int64_t whole = 0;
    double value = 0;
    char expected[96];
    bool fits;

    if (range->whole) {
        fits = node != 0 && eo_json_integer(reader->tree, node, (int64_t)range->low,
                                            (int64_t)range->high, &whole);
        value = (double)whole;
    } else {
        fits = node != 0 && eo_json_number(reader->tree, node, &value) && value >= range->low &&
               value <= range->high;
    }
    if (!fits) {
        (void)snprintf(expected, sizeof expected, "%s from %.16g to %.16g",
                       range->whole ? "a whole number" : "a number", range->low, range->high);
        wrong(reader, node, range->key, expected);
    }
    return value;
}

static const char *read_text(struct reader *reader, uint32_t table, const char *key)
{
    uint32_t node = eo_json_member(reader->tree, table, key);
    const struct eo_json_node *found = &reader->tree->nodes[node];
    size_t bytes = (size_t)(found->end - found->begin) + 1;
    char *text;
    int64_t length;

    if (reader->result != EO_OK || node == 0 || found->type != EO_JSON_STRING) {
        wrong(reader, node, key, "a string");
        return "";
    }
    text = eo_arena_take(reader->arena, bytes, 1);
    if (text == NULL) {
        reader->result = eo_fail(reader->failure, EO_ENOMEM, reader->path, "no memory");
        return "";
    }
    length = eo_json_string(reader->tree, node, text, bytes);
    if (length < 0 || strlen(text) != (size_t)length ||
        text[strspn(text, " \t\r\n\v\f")] == '\0') {
        wrong(reader, node, key, "some text");
    }
    return text;
}

static bool is_among(const struct eo_json_tree *tree, uint32_t key, const char *const *names)
{
    while (*names != NULL && !eo_json_is(tree, key, *names)) {
        names++;
    }
    return *names != NULL;
}

/* All known keys are there, so that one more in all is unknown or stands there twice. */
static void check_keys(struct reader *reader, uint32_t table, const char *const *names,
                       bool numbers, uint32_t count)
{
    const struct eo_json_tree *tree = reader->tree;

    if (reader->result != EO_OK || eo_json_length(tree, table) == count) {
        return;
    }
    for (uint32_t key = table + 1; key < tree->nodes[table].next; key = tree->nodes[key + 1].next) {
        bool known = is_among(tree, key, names);
        for (int i = 0; numbers && !known && i < RANGES; i++) {
            known = eo_json_is(tree, key, ranges[i].key);
        }
        if (!known) {
            const struct eo_json_node *found = &tree->nodes[key];
            const uint32_t bytes = found->end - found->begin;
            reader->result =
                eo_fail(reader->failure, EO_EINPUT, reader->path, "%s%.*s: unknown key",
                        reader->table, (int)(bytes < SHOWN_BYTES ? bytes : SHOWN_BYTES),
                        tree->text + found->begin);
            return;
        }
    }
    reader->result = eo_fail(reader->failure, EO_EINPUT, reader->path, "%sa key stands there twice",
                             reader->table);
}

static void read_part(struct reader *reader, const char *key, const char *table,
                      struct eo_cascade_part *part)
{
    uint32_t node = eo_json_member(reader->tree, 0, key);

    if (node == 0 || reader->tree->nodes[node].type != EO_JSON_OBJECT) {
        wrong(reader, node, key, "an object");
        return;
    }
    reader->table = table;
    part->name = read_text(reader, node, part_keys[0]);
    part->digest = read_text(reader, node, part_keys[1]);
    part->engine = read_text(reader, node, part_keys[2]);
    part->precision = read_text(reader, node, part_keys[3]);
    check_keys(reader, node, part_keys, false, 4);
    reader->table = "";
}

static void read_document(struct reader *reader, struct eo_cascade_rule *rule)
{
    const struct eo_json_tree *tree = reader->tree;
    double values[RANGES];
    uint32_t measure;

    if (tree->nodes[0].type != EO_JSON_OBJECT) {
        reader->result =
            eo_fail(reader->failure, EO_EINPUT, reader->path, "expected a JSON object");
        return;
    }
    values[SCHEMA] = read_number(reader, &ranges[SCHEMA]);
    if (reader->result == EO_OK && values[SCHEMA] > EO_CASCADE_SCHEMA) {
        reader->result = eo_fail(reader->failure, EO_EUNSUPPORTED, reader->path,
                                 "schema version %.0f, this runtime reads %d", values[SCHEMA],
                                 EO_CASCADE_SCHEMA);
    }
    read_part(reader, "first", "first.", &rule->first);
    read_part(reader, "second", "second.", &rule->second);
    for (int i = SCHEMA + 1; i < RANGES; i++) {
        values[i] = read_number(reader, &ranges[i]);
    }
    rule->temperature = values[TEMPERATURE];
    rule->threshold = values[THRESHOLD];
    measure = eo_json_member(tree, 0, "measure");
    if (measure == 0 ||
        !(eo_json_is(tree, measure, "accuracy") || eo_json_is(tree, measure, "same label"))) {
        wrong(reader, measure, "measure", "accuracy or same label");
    }
    check_keys(reader, 0, other_keys, true, RANGES + 3);
}

/* Returns the bytes read into `text`, of FILE_BYTES, or -1. */
static int64_t read_file(const char *path, char *text, struct eo_failure *failure)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct stat facts;
    ssize_t got = 1;
    size_t bytes = 0;
    int error = 0;

    if (descriptor < 0) {
        (void)eo_fail(failure, EO_EIO, path, "cannot be opened (%s)", strerror(errno));
        return -1;
    }
    if (fstat(descriptor, &facts) != 0 || !(S_ISREG(facts.st_mode) || S_ISDIR(facts.st_mode))) {
        (void)close(descriptor);
        (void)eo_fail(failure, EO_EIO, path, "is no regular file");
        return -1;
    }
    while (got > 0 && bytes < FILE_BYTES) {
        got = read(descriptor, text + bytes, FILE_BYTES - bytes);
        bytes += got > 0 ? (size_t)got : 0;
    }
    error = got < 0 ? errno : 0;
    (void)close(descriptor); /* nothing was written */
    if (error != 0) {
        (void)eo_fail(failure, EO_EIO, path, "cannot be read (%s)", strerror(error));
        return -1;
    }
    if (bytes == FILE_BYTES) {
        (void)eo_fail(failure, EO_EINPUT, path, "is too long for what edgeopt cascade writes");
        return -1;
    }
    return (int64_t)bytes;
}

int eo_cascade_read(const char *path, struct eo_arena *arena, struct eo_cascade_rule *rule,
                    struct eo_failure *failure)
{
    struct eo_json_tree tree = {0};
    struct reader reader = {
        .tree = &tree, .arena = arena, .path = path, .table = "", .failure = failure};
    char *text = malloc(FILE_BYTES);
    int64_t bytes;

    if (text == NULL) {
        return eo_fail(failure, EO_ENOMEM, path, "no memory");
    }
    bytes = read_file(path, text, failure);
    reader.result = bytes < 0 ? failure->code
                              : eo_json_parse(text, (size_t)bytes, path, &tree, failure);
    if (reader.result == EO_EBUNDLE) {
        reader.result = failure->code = EO_EINPUT; /* it is a file of no bundle */
    }
    if (reader.result == EO_OK) {
        read_document(&reader, rule);
    }
    eo_json_free(&tree);
    free(text);
    return reader.result;
}
