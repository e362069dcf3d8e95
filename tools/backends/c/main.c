/* refmiracle_c                          answer JSON lines on standard input
 * refmiracle_c decode FILE.rmc [UPDATE.rmc ...] OUT.f32
 *     write all weights, as the last update leaves them, as little-endian float32
 * refmiracle_c classify FILE.rmc [UPDATE.rmc ...] IMAGES.u8
 *     write the class of each image, a line each; the images are bytes, one for each pixel and channel
 *
 * Exit codes: 0 fine, 1 input or output broke off, 2 bad input or usage.
 */
#include <errno.h>
#include <string.h>

#include "protocol.h"

enum { MOST_PIXELS = 1 << 26 };

typedef struct {
    int files; /* a model and updates */
    char **name; /* of the files, and of what to write or to classify */
} Job;

static uint8_t *read_file(const char *path, size_t most, size_t *size)
{
    uint8_t *data = allocate(most + 1, 1);
    FILE *file = fopen(path, "rb");
    int failed;

    if (file == NULL)
        fail("%s: %s", path, strerror(errno));
    *size = fread(data, 1, most + 1, file);
    failed = ferror(file);
    fclose(file);
    if (failed)
        fail("%s: it cannot be read", path);
    if (*size > most)
        fail("%s: it is larger than %lu bytes", path, (unsigned long)most);
    return shrink(*size);
}

/* Tells whether a device or a pipe is there, or an empty file: what has no end. */
static int is_other(const char *path)
{
    FILE *file = fopen(path, "r+b"); /* "rb" would wait for a pipe's other side */
    int other = file != NULL && (fseek(file, 0, SEEK_END) != 0 || ftell(file) <= 0);

    if (file != NULL)
        fclose(file);
    return other;
}

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    int there = rename(path, path) == 0; /* does nothing, to what there is */
    FILE *file = fopen(path, "wb");
    size_t written;

    if (file == NULL)
        fail("%s: %s", path, strerror(errno));
    written = fwrite(data, 1, size, file);
    if (fclose(file) != 0 || written != size) {
        if (!there || !is_other(path))
            remove(path);
        fail("%s: it cannot be written", path);
    }
}

static Chain read_files(const Job *job)
{
    File *files = allocate((size_t)job->files, sizeof *files);

    for (int i = 0; i < job->files; i++) {
        files[i].name = job->name[i];
        files[i].data = read_file(job->name[i], LARGEST_FILE, &files[i].size);
    }
    return read_chain(files, (size_t)job->files);
}

static void decode(void *context)
{
    const Job *job = context;
    Chain chain = read_files(job);
    size_t count = chain.root.network->weights;
    uint8_t *bytes = allocate(count, 4);

    float32_bytes(decode_chain(&chain), count, bytes);
    write_file(job->name[job->files], bytes, count * 4);
}

static void classify(void *context)
{
    const Job *job = context;
    Chain chain = read_files(job);
    const Network *network = chain.root.network;
    const char *path = job->name[job->files];
    size_t size, image = network->image[0] * network->image[1] * network->image[2], images;
    uint8_t *pixels = read_file(path, MOST_PIXELS, &size);
    double *logits;

    images = size / image;
    if (images == 0 || size % image != 0)
        fail("%s: it has %lu bytes; expected images of %lu", path, (unsigned long)size,
             (unsigned long)image);
    if (images > SIZE_MAX / network->classes)
        fail("%s: it has too many images", path);
    logits = allocate(images * network->classes, sizeof *logits);
    predict(network, decode_chain(&chain), pixels, images, logits);
    for (size_t n = 0; n < images; n++)
        printf("%lu\n", (unsigned long)largest_logit(logits + n, images, network->classes));
}

int main(int argc, char **argv)
{
    void (*work)(void *) = NULL;
    int fine;

    if (argc == 1)
        return serve(stdin, stdout);
    if (argc >= 4 && strcmp(argv[1], "decode") == 0)
        work = decode;
    else if (argc >= 4 && strcmp(argv[1], "classify") == 0)
        work = classify;
    if (work == NULL) {
        fputs("usage: refmiracle_c [decode FILE.rmc [UPDATE.rmc ...] OUT.f32]\n"
              "       refmiracle_c classify FILE.rmc [UPDATE.rmc ...] IMAGES.u8\n", stderr);
        return 2;
    }
    fine = attempt(work, &(Job){argc - 3, argv + 2});
    if (!fine)
        fprintf(stderr, "refmiracle_c: %s\n", failure());
    release();
    if (fflush(stdout) != 0)
        return 1;
    return fine ? 0 : 2;
}
