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

    release();
    device->model = read_container(arrival->data, arrival->size);
    if (device->model.coding.variables > MOST_VARIABLES)
        fail("it has %lu variables; there is room for %lu",
             (unsigned long)device->model.coding.variables, (unsigned long)MOST_VARIABLES);
    device_book_rooms(device);
    decode_variables(&device->model, device->variables, (Room){device->keys, KEYS});
    device->checksum = device->model.checksum;
}

int device_start(Device *device, const uint8_t *file, size_t size)
{
    int started = attempt(start, &(Arrival){device, file, size});

    if (!started)
        device->model.network = NULL;
    return started;
}

static void update(void *context)
{
    const Arrival *arrival = context;
    Device *device = arrival->device;
    Base base = {device->checksum, "the last one here"};
    Update packet;

    if (device->model.network == NULL)
        fail("there is no base to update");
    packet = read_update(&device->model, base, arrival->data, arrival->size);
    /* From here on nothing can fail. */
    apply_update(&device->model, &packet, device->variables, (Room){device->keys, KEYS});
    device->checksum = packet.checksum;
}

int device_update(Device *device, const uint8_t *packet, size_t size)
{
    return attempt(update, &(Arrival){device, packet, size});
}
