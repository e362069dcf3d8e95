/* What a small device does with a base and its updates, in memory whose size is known beforehand.
 *
 * The file of the base lies in flash.  Its variables stand in RAM, one float32 each; the weights, hundreds
 * of thousands, are never spread out.  An update comes as a packet and is added to the variables where
 * they are.  Networks 1 and 2, which no file describes.
 */
#ifndef DEVICE_H
#define DEVICE_H

#include "../refmiracle.h"

#ifndef MOST_VARIABLES
#define MOST_VARIABLES 26580 /* as in data/models/lenet5-1551.rmc */
#endif
#ifndef KEYS
#define KEYS 512 /* fewer take less RAM and more time: the words are drawn variables / KEYS times */
#endif

/* Activations of one image: what a layer takes, what it gives, and one plane before it is pooled. */
enum { WIDE = 20 * 12 * 12, NARROW = 50 * 4 * 4, PLANE = 24 * 24, MOST_CLASSES = 10 };

typedef struct {
    Model model; /* points into the file in flash */
    uint32_t checksum; /* of the last file: what the next update must name */
    float variables[MOST_VARIABLES];
    uint64_t keys[KEYS];
    float wide[WIDE], narrow[NARROW], plane[PLANE];
} Device;

/* Decode a base.  Return 1, or 0 with the reason in failure(). */
int device_start(Device *device, const uint8_t *file, size_t size);
/* Apply an update to what there is.  Return 1; or 0, and nothing has changed. */
int device_update(Device *device, const uint8_t *packet, size_t size);
/* Return the class of an image of 28 x 28 pixels. */
int device_classify(Device *device, const uint8_t *pixels);

#endif
