/* refmiracle_device BASE.rmc [UPDATE.rmc ...] IMAGES.u8
 *
 * A device in the shape of a program: static arrays stand for its flash and its RAM, and nothing else is
 * used.  The base is decoded, the updates arrive one after the other, and the images, a byte for each pixel
 * of each channel, are classified: a line each.
 *
 * Exit codes: 0 fine, 1 output broke off, 2 bad input or usage.
 */
#include "device.h"

#include <stdio.h>

static uint8_t flash[FLASH], packet[PACKET], image[MOST_VALUES];
static Device device;

static int refuse(const char *name, const char *reason)
{
    fprintf(stderr, "refmiracle_device: %s: %s\n", name, reason);
    return 2;
}

static int refuse_images(const char *name, size_t pixels)
{
    char reason[80];

    snprintf(reason, sizeof reason, "it has no images of %lu bytes, or a part of one",
             (unsigned long)pixels);
    return refuse(name, reason);
}

/* Return the size of a file; 0 if it cannot be read, or is larger than `most`. */
static size_t fetch(const char *name, uint8_t *to, size_t most)
{
    FILE *file = fopen(name, "rb");
    size_t size = 0;

    if (file == NULL)
        return 0;
    size = fread(to, 1, most, file);
    if (ferror(file) || getc(file) != EOF)
        size = 0;
    fclose(file);
    return size;
}

static int classify(const char *name)
{
    FILE *file = fopen(name, "rb");
    size_t pixels = device_image(&device), size = 0, images = 0;
    int broken;

    if (file == NULL)
        return refuse(name, "it cannot be read");
    while ((size = fread(image, 1, pixels, file)) == pixels) {
        int class = device_classify(&device, image);

        if (class < 0)
            break;
        printf("%d\n", class);
        images++;
    }
    broken = ferror(file);
    fclose(file);
    if (size == pixels)
        return refuse(name, "an image has no class: a logit is not finite");
    if (broken || size != 0 || images == 0)
        return refuse_images(name, pixels);
    return fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
    size_t size;

    if (argc < 3) {
        fputs("usage: refmiracle_device BASE.rmc [UPDATE.rmc ...] IMAGES.u8\n", stderr);
        return 2;
    }
    if ((size = fetch(argv[1], flash, FLASH)) == 0)
        return refuse(argv[1], "it cannot be read, or does not fit into the flash");
    if (!device_start(&device, flash, size))
        return refuse(argv[1], failure());
    for (int i = 2; i < argc - 1; i++) {
        if ((size = fetch(argv[i], packet, PACKET)) == 0)
            return refuse(argv[i], "it cannot be read, or does not fit into a packet");
        if (!device_update(&device, packet, size))
            return refuse(argv[i], failure());
    }
    return classify(argv[argc - 1]);
}
