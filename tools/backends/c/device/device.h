/* What a small device does with a base and its updates, in memory whose size is known beforehand.
 *
 * The file of the base lies in flash.  Its variables stand in RAM, one float32 each; the weights, often
 * many more, are never spread out.  An update comes as a packet and is added to the variables where they
 * are.  The sizes below are those of LeNet-5; the Makefile has those of ResNet-8.
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
/* Activations of one image: rooms for so many values each.  Two do for layers one behind the other, three
 * for residuals like those of ResNet-8.
 */
#ifndef ROOMS
#define ROOMS 2
#endif
#ifndef MOST_VALUES
#define MOST_VALUES (20 * 12 * 12)
#endif
#ifndef PLANE
#define PLANE (24 * 24) /* one map of a convolution before a maximum pool, which makes it smaller at once */
#endif

typedef struct {
    Model model; /* points into the file in flash */
    uint32_t checksum; /* of the last file: what the next update must name */
    float variables[MOST_VARIABLES];
    uint64_t keys[KEYS];
    float room[ROOMS][MOST_VALUES], plane[PLANE];
} Device;

/* Decode a base, and try whether its network fits.  Return 1, or 0 with the reason in failure(). */
int device_start(Device *device, const uint8_t *file, size_t size);
/* Apply an update to what there is.  Return 1; or 0, and nothing has changed. */
int device_update(Device *device, const uint8_t *packet, size_t size);
/* The bytes of an image: one for each pixel of each channel. */
size_t device_image(const Device *device);
/* Return the class of an image (channels, height, width).  NULL stands for any, to find out whether there
 * is room for all layers: device_start() does, so that nothing fails later.
 */
int device_classify(Device *device, const uint8_t *pixels);

#endif
