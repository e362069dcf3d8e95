/* A model and its updates as files that a reader gives, each an update of the one before: section 13. */
#include "refmiracle.h"

Chain read_chain(const File *files, size_t count)
{
    Chain chain = {{0}, count - 1, NULL};
    Update *update = allocate(count, sizeof *update);
    uint32_t checksum;

    blame(files[0].name);
    chain.root = read_container(files[0].data, files[0].size);
    checksum = chain.root.checksum;
    for (size_t i = 1; i < count; i++) {
        blame(files[i].name);
        update[i - 1] = read_update(&chain.root, (Base){checksum, files[i - 1].name},
                                    files[i].data, files[i].size);
        checksum = update[i - 1].checksum;
    }
    blame(NULL);
    chain.update = update;
    return chain;
}

float *decode_chain(const Chain *chain)
{
    const Model *root = &chain->root;
    size_t count = variables(root);
    float *values = allocate(count, sizeof *values);
    float *weights = allocate(root->network->weights, sizeof *weights);
    Room room = {allocate(count, sizeof *room.keys), count};

    decode_variables(root, values, room);
    for (size_t i = 0; i < chain->updates; i++)
        apply_update(root, &chain->update[i], values, room);
    spread_variables(root, values, weights);
    return weights;
}
