#include "golden.h"

#include "npy.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Copies the name in "<prefix><name>.npy"; returns 0 where the file is not of that kind. */
static int name_of(const char *file, const char *prefix, char *name, size_t size)
{
    size_t length = strlen(file), head = strlen(prefix), tail = strlen(".npy");

    if (length <= head + tail || strncmp(file, prefix, head) != 0 ||
        strcmp(file + length - tail, ".npy") != 0 || length - head - tail >= size) {
        return 0;
    }
    memcpy(name, file + head, length - head - tail);
    name[length - head - tail] = '\0';
    return 1;
}

static int read_one(const char *directory, const char *file, struct eo_named_tensor *tensors,
                    size_t *count, const char *name, struct eo_failure *failure)
{
    char path[4096];
    int wrote = snprintf(path, sizeof path, "%s/%s", directory, file);

    if (wrote < 0 || (size_t)wrote >= sizeof path) {
        return eo_fail(failure, directory, "path is too long");
    }
    if (*count == EO_MAX_TENSORS) {
        return eo_fail(failure, directory, "more than %d tensors of one kind", EO_MAX_TENSORS);
    }
    if (snprintf(tensors[*count].name, sizeof tensors[*count].name, "%s", name) < 0 ||
        eo_npy_read(path, &tensors[*count].tensor, failure) != 0) {
        return -1;
    }
    (*count)++;
    return 0;
}

static int read_entries(DIR *folder, struct eo_golden *golden, struct eo_failure *failure)
{
    const char *directory = golden->directory;
    const struct dirent *entry;
    char name[128];

    for (errno = 0; (entry = readdir(folder)) != NULL; errno = 0) {
        int result = 0;

        if (name_of(entry->d_name, "in.", name, sizeof name)) {
            result = read_one(directory, entry->d_name, golden->inputs, &golden->input_count, name,
                              failure);
        } else if (name_of(entry->d_name, "out.", name, sizeof name)) {
            result = read_one(directory, entry->d_name, golden->outputs, &golden->output_count,
                              name, failure);
        }
        if (result != 0) {
            return -1;
        }
    }
    if (errno != 0) {
        return eo_fail(failure, directory, "cannot be listed (%s)", strerror(errno));
    }
    if (golden->output_count == 0) {
        return eo_fail(failure, directory, "holds no out.<name>.npy");
    }
    return 0;
}

int eo_golden_open(const char *directory, struct eo_golden *golden, struct eo_failure *failure)
{
    DIR *folder = opendir(directory);
    int result;

    memset(golden, 0, sizeof *golden);
    golden->directory = directory;
    if (folder == NULL) {
        return eo_fail(failure, directory, "cannot be opened (%s)", strerror(errno));
    }
    result = read_entries(folder, golden, failure);
    if (closedir(folder) != 0 && result == 0) {
        result = eo_fail(failure, directory, "cannot be closed (%s)", strerror(errno));
    }
    return result;
}

void eo_golden_close(struct eo_golden *golden)
{
    for (size_t i = 0; i < EO_MAX_TENSORS; i++) {
        free(golden->inputs[i].tensor.data);
        free(golden->outputs[i].tensor.data);
    }
    memset(golden, 0, sizeof *golden);
}

const char *eo_artifact_name(const char *name, const struct eo_option *names, size_t name_count)
{
    for (size_t i = 0; i < name_count; i++) {
        if (strcmp(names[i].key, name) == 0) {
            return names[i].value;
        }
    }
    return name;
}

const struct eo_tensor *eo_golden_mask(const struct eo_golden *golden)
{
    for (size_t i = 0; i < golden->input_count; i++) {
        if (strcmp(golden->inputs[i].name, "attention_mask") == 0) {
            return &golden->inputs[i].tensor;
        }
    }
    return NULL;
}

static int convert(const struct eo_named_tensor *from, const struct eo_port *port,
                   struct eo_tensor *to, struct eo_failure *failure)
{
    enum eo_dtype wanted = port->dtype, found = from->tensor.dtype;
    size_t count = from->tensor.count;
    size_t bytes = count * eo_dtype_bytes(wanted);

    if (found != wanted && (found == EO_FLOAT32 || wanted == EO_FLOAT32)) {
        return eo_fail(failure, port->name, "the artifact takes %s, the golden input is %s",
                       eo_dtype_name(wanted), eo_dtype_name(found));
    }
    *to = from->tensor;
    to->dtype = wanted;
    to->data = malloc(bytes == 0 ? 1 : bytes);
    if (to->data == NULL) {
        return eo_fail(failure, port->name, "no memory for %zu bytes", bytes);
    }
    if (found == wanted) {
        memcpy(to->data, from->tensor.data, bytes);
    } else if (wanted == EO_INT64) {
        for (size_t i = 0; i < count; i++) {
            ((int64_t *)to->data)[i] = ((const int32_t *)from->tensor.data)[i];
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            int64_t value = ((const int64_t *)from->tensor.data)[i];
            if (value < INT32_MIN || value > INT32_MAX) {
                return eo_fail(failure, port->name, "value %lld does not fit the artifact's int32",
                               (long long)value);
            }
            ((int32_t *)to->data)[i] = (int32_t)value;
        }
    }
    return 0;
}

int eo_golden_inputs(const struct eo_golden *golden, const struct eo_option *names,
                     size_t name_count, const struct eo_engine *engine,
                     const struct eo_session *session, struct eo_tensor *tensors,
                     struct eo_failure *failure)
{
    for (size_t i = 0; i < engine->input_count(session); i++) {
        struct eo_port port = engine->input(session, i);
        const struct eo_named_tensor *found = NULL;

        for (size_t j = 0; found == NULL && j < golden->input_count; j++) {
            if (strcmp(eo_artifact_name(golden->inputs[j].name, names, name_count), port.name) == 0) {
                found = &golden->inputs[j];
            }
        }
        if (found == NULL) {
            return eo_fail(failure, golden->directory,
                           "has no in.*.npy for the artifact's input %s; --input MODEL=ARTIFACT "
                           "maps names",
                           port.name);
        }
        if (convert(found, &port, &tensors[i], failure) != 0) {
            return -1;
        }
    }
    return 0;
}
