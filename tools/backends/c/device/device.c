/* A base and its updates in RAM: sections 8.3 and 13.  attempt() turns a refusal into a 0. */
#include "device.h"

typedef struct {
    Device *device;
    const uint8_t *data;
    size_t size;
} Arrival;

static void start(void *context)
{
    const Arrival *arrival = context;
    Device *device = arrival->device;
    Model model;

    release();
    model = read_container(arrival->data, arrival->size);
    if (model.coding.variables > MOST_VARIABLES)
        fail("it has %lu variables; there is room for %lu", (unsigned long)model.coding.variables,
             (unsigned long)MOST_VARIABLES);
    device->model = model;
    if (device_image(device) > MOST_VALUES)
        fail("its images have %lu values; there is room for %lu",
             (unsigned long)device_image(device), (unsigned long)MOST_VALUES);
    decode_variables(&device->model, device->variables, (Room){device->keys, KEYS});
    device_classify(device, NULL);
    device->checksum = device->model.checksum;
}

int device_start(Device *device, const uint8_t *file, size_t size)
{
    return attempt(start, &(Arrival){device, file, size});
}

static void update(void *context)
{
    const Arrival *arrival = context;
    Device *device = arrival->device;
    Base base = {device->checksum, "the last one here"};
    Update packet = read_update(&device->model, base, arrival->data, arrival->size);

    /* From here on nothing can fail. */
    apply_update(&device->model, &packet, device->variables, (Room){device->keys, KEYS});
    device->checksum = packet.checksum;
}

int device_update(Device *device, const uint8_t *packet, size_t size)
{
    return attempt(update, &(Arrival){device, packet, size});
}
