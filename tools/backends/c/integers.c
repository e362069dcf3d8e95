/* Integers as bytes: the range coder of section 2.7. */
#include <string.h>

#include "refmiracle.h"

enum { HALF = 32768, LARGEST_EXPONENT = 61 };
static const uint32_t whole = 0xFFFFFFFFu, least = (uint32_t)1 << 24;

/* --- writing */

/* L below the bytes that left it, and R.  A carry may still reach the last of these bytes that is not
 * 255, and those behind it, so they are held back: neither writing nor comparing needs to go back.
 */
typedef struct {
    uint64_t low;
    uint32_t width;
    int held; /* -1: none */
    size_t pending, count; /* bytes 255 behind the one that is held; bytes that are final */
    uint8_t *out; /* NULL: the bytes are compared with data[0], ..., data[size - 1] */
    const uint8_t *data;
    size_t size;
    int differs;
} Encoder;

static void settle(Encoder *encoder, int byte)
{
    size_t place = encoder->count++;

    if (encoder->out != NULL)
        encoder->out[place] = (uint8_t)byte;
    else if (place >= encoder->size || encoder->data[place] != byte)
        encoder->differs = 1;
}

static void settle_held(Encoder *encoder, int carry)
{
    if (encoder->held >= 0)
        settle(encoder, encoder->held + carry);
    for (; encoder->pending > 0; encoder->pending--)
        settle(encoder, carry ? 0 : 255);
    encoder->held = -1;
}

/* L has outgrown 32 bits: add one to what is held.  That never is the first byte of all, nor is there a
 * second carry to a byte: the interval that is left lies within the one there was.
 */
static void carry(Encoder *encoder)
{
    encoder->low &= whole;
    settle_held(encoder, 1);
}

static void put_byte(Encoder *encoder, int byte)
{
    if (byte == 255 && encoder->held >= 0) {
        encoder->pending++;
        return;
    }
    settle_held(encoder, 0);
    encoder->held = byte;
}

static void put(Encoder *encoder, uint32_t probability, int bit)
{
    uint32_t bound = (encoder->width >> 16) * probability;

    if (bit) {
        encoder->width = bound;
    } else {
        encoder->low += bound;
        encoder->width -= bound;
    }
    for (; encoder->width < least; encoder->width <<= 8) {
        if (encoder->low > whole)
            carry(encoder);
        put_byte(encoder, (int)(encoder->low >> 24));
        encoder->low = encoder->low << 8 & whole;
    }
}

static void put_integer(Encoder *encoder, int64_t integer, Law law)
{
    int64_t n = integer >> law.raw;
    int e = 0;

    for (uint32_t bit = law.raw; bit-- > 0;)
        put(encoder, HALF, integer >> bit & 1);
    while (n >> (e + 1) != 0)
        e++;
    for (int i = 0; i < e; i++)
        put(encoder, law.theta, 1);
    put(encoder, law.theta, 0);
    for (int bit = e; bit-- > 0;)
        put(encoder, HALF, n >> bit & 1);
}

/* The last one or two bytes: the fewest of which every continuation lies in the interval. */
static void finish(Encoder *encoder)
{
    uint64_t unit = least, value;
    int more = 1;

    value = (encoder->low + unit - 1) / unit;
    if ((value + 1) * unit > encoder->low + encoder->width) {
        more = 2;
        unit >>= 8;
        value = (encoder->low + unit - 1) / unit;
    }
    if (value >> 8 * more != 0)
        carry(encoder);
    while (more-- > 0)
        put_byte(encoder, (int)(value >> 8 * more & 255));
    settle_held(encoder, 0);
}

static Encoder start_encoder(uint8_t *out, const uint8_t *data, size_t size)
{
    Encoder encoder = {0, whole, -1, 0, 0, out, data, size, 0};

    return encoder;
}

/* Return the size of the code word; without `out` it is only counted. */
static size_t encode(const int64_t *integers, size_t count, Law law, uint8_t *out)
{
    Encoder encoder = start_encoder(out, NULL, 0);

    for (size_t i = 0; i < count; i++)
        put_integer(&encoder, integers[i], law);
    finish(&encoder);
    return encoder.count;
}

uint8_t *write_integers(const int64_t *integers, size_t count, Law law, size_t *size)
{
    uint8_t *out;

    if (count > LARGEST_COUNT)
        fail("%lu integers are more than %d", (unsigned long)count, LARGEST_COUNT);
    for (size_t i = 0; i < count; i++)
        if (integers[i] >> law.raw < 1 || integers[i] > largest_integer)
            fail("integer %lu is out of range", (unsigned long)i);
    *size = encode(integers, count, law, NULL);
    out = allocate(*size, 1);
    encode(integers, count, law, out);
    return out;
}

/* --- reading */

/* The next byte; zeros stand behind the end. */
static void take_byte(Integers *integers)
{
    uint8_t byte = integers->taken < integers->size ? integers->data[integers->taken] : 0;

    integers->ahead = integers->ahead << 8 | byte;
    integers->taken++;
}

static int take(Integers *integers, uint32_t probability)
{
    uint32_t bound = (integers->width >> 16) * probability;
    int bit = integers->ahead < bound;

    if (bit) {
        integers->width = bound;
    } else {
        integers->ahead -= bound;
        integers->width -= bound;
    }
    for (; integers->width < least; integers->width <<= 8) {
        /* N is at most the length of the code word minus 1; taken is N + 4. */
        if (integers->taken - 3 >= integers->size)
            fail("the integers are cut off");
        take_byte(integers);
    }
    return bit;
}

Integers start_integers(const uint8_t *data, size_t size, Law law)
{
    Integers integers = {data, size, 0, law, 0, whole};

    for (int i = 0; i < 4; i++)
        take_byte(&integers);
    return integers;
}

int64_t next_integer(Integers *integers)
{
    Law law = integers->law;
    int64_t raw = 0, n = 1;
    uint32_t e = 0;

    for (uint32_t i = 0; i < law.raw; i++)
        raw = raw << 1 | take(integers, HALF);
    while (take(integers, law.theta))
        if (++e + law.raw > LARGEST_EXPONENT)
            fail("an integer is 2^62 or more");
    for (uint32_t i = 0; i < e; i++)
        n = n << 1 | take(integers, HALF);
    return (n << law.raw) | raw;
}

int64_t check_integers(const uint8_t *data, size_t size, Law law, size_t count)
{
    Integers integers = start_integers(data, size, law);
    Encoder again = start_encoder(NULL, data, size);
    int64_t largest = 0;

    if (count > LARGEST_COUNT)
        fail("%lu integers are more than %d", (unsigned long)count, LARGEST_COUNT);
    for (size_t i = 0; i < count; i++) {
        int64_t integer = next_integer(&integers);

        put_integer(&again, integer, law);
        if (integer > largest)
            largest = integer;
    }
    finish(&again);
    if (again.differs || again.count != size)
        fail("the bytes are not the code word of their integers");
    return largest;
}
