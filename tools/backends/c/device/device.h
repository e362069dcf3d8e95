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
#ifndef DESCRIPTION
#define DESCRIPTION 1 /* bytes of support.c; the layers of a network that its file describes take some 16,000 */
#endif
#ifndef FLASH
#define FLASH 8192 /* bytes of main.c, as are those of the next one */
#endif
#ifndef PACKET
#define PACKET 512
#endif

/* There is one in a program: the layers of a described network stand in support.c. */
typedef struct {
    Model model; /* points into the file in flash; its network is NULL where no base is */
    uint32_t checksum; /* of the last file: what the next update must name */
    float variables[MOST_VARIABLES];
    uint64_t keys[KEYS];
    float room[ROOMS][MOST_VALUES], plane[PLANE];
} Device;

/* Decode a base whose network fits.  Return 1; or 0 with the reason in failure(), and there is no base. */
int device_start(Device *device, const uint8_t *file, size_t size);
/* Apply an update to what there is.  Return 1; or 0, and nothing has changed. */
int device_update(Device *device, const uint8_t *packet, size_t size);
/* The bytes of an image: one for each pixel of each channel; 0 without a base. */
size_t device_image(const Device *device);
/* Return the class of an image (channels, height, width); -1 without a base, and where a logit is not
 * finite: float32 does not reach as far as that network.
 */
int device_classify(Device *device, const uint8_t *pixels);
/* classify.c: find rooms for all layers, without an image; fails where there are none. */
void device_book_rooms(Device *device);

#endif
