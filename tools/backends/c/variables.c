/* From messages to variables, place by place: sections 7.2 to 8.3, and 13.
 *
 * Places are filled in order, as the messages stand.  Which variable stands at a place the order of the
 * words says, and that is found by a heap of as many keys as there is room for: each time the words are
 * drawn it holds those that come next.
 */
#include "refmiracle.h"

/* --- the permutation */

static void swap(uint64_t *a, uint64_t *b)
{
    uint64_t kept = *a;

    *a = *b;
    *b = kept;
}

/* Let keys[at] sink below larger ones, among the first `size`. */
static void sink(uint64_t *keys, size_t at, size_t size)
{
    for (;;) {
        size_t larger = 2 * at + 1;

        if (larger >= size)
            return;
        if (larger + 1 < size && keys[larger + 1] > keys[larger])
            larger++;
        if (keys[larger] <= keys[at])
            return;
        swap(&keys[at], &keys[larger]);
        at = larger;
    }
}

static void rise(uint64_t *keys, size_t at)
{
    for (; at > 0 && keys[(at - 1) / 2] < keys[at]; at = (at - 1) / 2)
        swap(&keys[at], &keys[(at - 1) / 2]);
}

/* Find the smallest keys from `least` on, sorted; a key is a word and, below it, the variable's number,
 * which makes the order of equal words stable.  Return how many there are.
 */
static size_t next_keys(const Coding *coding, uint64_t least, Room room)
{
    uint32_t words[4];
    size_t size = 0;

    for (size_t i = 0; i < coding->variables; i++) {
        uint64_t key;

        if (i % 4 == 0)
            stream_words(coding->seed, PERMUTATION, 0, i, 4, words);
        key = (uint64_t)words[i % 4] << 32 | i;
        if (key < least)
            continue;
        if (size < room.size) {
            room.keys[size] = key;
            rise(room.keys, size++);
        } else if (key < room.keys[0]) {
            room.keys[0] = key;
            sink(room.keys, 0, size);
        }
    }
    for (size_t rest = size; rest > 1; rest--) {
        swap(&room.keys[0], &room.keys[rest - 1]);
        sink(room.keys, 0, rest - 1);
    }
    return size;
}

/* --- normals */

typedef struct {
    Messages messages;
    int64_t message;
    size_t place;
    uint32_t words[4];
} Normals;

/* Sections 7.3 to 7.5: the normal of the next place. */
static float next_normal(Normals *normals)
{
    const Coding *coding = normals->messages.coding;
    size_t place = normals->place++, d = place % coding->block_size;

    if (coding->code >= AS_STAR)
        return node_normal(coding->code, coding->seed, (uint32_t)place,
                           next_message(&normals->messages));
    if (d == 0)
        normals->message = next_message(&normals->messages);
    if (coding->code == SP_PFR) {
        if (d % 4 == 0)
            bin_words(coding->seed, coding->bits, (uint32_t)(place / coding->block_size),
                      normals->message, d, normals->words);
        return bin_normal(coding->bits, normals->message, coding->block_size, d,
                          normals->words[d % 4]);
    }
    if (d % 4 == 0)
        stream_words(coding->seed, CODEBOOK, (uint32_t)normals->message, d, 4, normals->words);
    return word_normal(normals->words[d % 4]);
}

/* --- variables */

/* Give coded variable `number` its normal: one float32 product, and in an update one float32 sum. */
static void give(const Model *root, const Update *update, size_t number, float z, float *variables)
{
    for (int t = 0; t < root->network->tensors; t++) {
        size_t size = tensor_variables(root, t);

        if (update == NULL || update->levels[t] != 0) {
            if (number < size) {
                float rho = update == NULL ? float16(root->rho[t]) : update_scale(root, update, t);
                float product = rho * z;

                variables[number] = update == NULL ? product : variables[number] + product;
                return;
            }
            number -= size;
        }
        variables += size;
    }
}

static void draw(const Model *root, const Update *update, float *variables, Room room)
{
    const Coding *coding = update == NULL ? &root->coding : &update->coding;
    Normals normals = {start_messages(coding), 0, 0, {0}};
    uint64_t least = 0;

    while (normals.place < coding->variables) {
        size_t count = next_keys(coding, least, room);

        for (size_t i = 0; i < count; i++)
            give(root, update, room.keys[i] & UINT32_MAX, next_normal(&normals), variables);
        least = room.keys[count - 1] + 1;
    }
}

void decode_variables(const Model *model, float *variables, Room room)
{
    draw(model, NULL, variables, room);
}

void apply_update(const Model *root, const Update *update, float *variables, Room room)
{
    draw(root, update, variables, room);
}
