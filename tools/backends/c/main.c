/* refmiracle_c                          answer JSON lines on standard input
 * refmiracle_c decode FILE.rmc OUT.f32  write all weights as little-endian float32
 *
 * Exit codes: 0 fine, 1 input or output broke off, 2 bad input or usage.
 */
#include <errno.h>
#include <string.h>

#include "protocol.h"

typedef struct {
    const char *input, *output;
} Job;

static uint8_t *read_file(const char *path, size_t *size)
{
    uint8_t *data = allocate(LARGEST_FILE + 1, 1);
    FILE *file = fopen(path, "rb");
    int failed;

    if (file == NULL)
        fail("%s: %s", path, strerror(errno));
    *size = fread(data, 1, LARGEST_FILE + 1, file);
    failed = ferror(file);
    fclose(file);
    if (failed)
        fail("%s: it cannot be read", path);
    if (*size > LARGEST_FILE)
        fail("%s: it is larger than any .rmc file", path); /* section 2.6 */
    return data;
}

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    size_t written;

    if (file == NULL)
        fail("%s: %s", path, strerror(errno));
    written = fwrite(data, 1, size, file);
    if (fclose(file) != 0 || written != size) {
        remove(path);
        fail("%s: it cannot be written", path);
    }
}

static void decode(void *context)
{
    const Job *job = context;
    size_t size;
    uint8_t *data = read_file(job->input, &size), *bytes;
    Model model = read_container(data, size);

    bytes = allocate(model.network->weights, 4);
    float32_bytes(decode_model(&model), model.network->weights, bytes);
    write_file(job->output, bytes, model.network->weights * 4);
}

int main(int argc, char **argv)
{
    int fine;

    if (argc == 1)
        return serve(stdin, stdout);
    if (argc != 4 || strcmp(argv[1], "decode") != 0) {
        fputs("usage: refmiracle_c [decode FILE.rmc OUT.f32]\n", stderr);
        return 2;
    }
    fine = attempt(decode, &(Job){argv[2], argv[3]});
    if (!fine)
        fprintf(stderr, "refmiracle_c: %s\n", failure());
    release();
    return fine ? 0 : 2;
}
