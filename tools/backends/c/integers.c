/* Integers as bytes: the range coder of section 2.7. */
#include <string.h>

#include "refmiracle.h"

enum { HALF = 32768, LARGEST_EXPONENT = 61 };
static const uint32_t whole = 0xFFFFFFFFu, least = (uint32_t)1 << 24;

/* --- writing */

/* L below its bytes that are written already, R, and those bytes; without `out` they are only
 * counted.
 */
typedef struct {
    uint64_t low;
    uint32_t width;
    size_t count; /* N */
    uint8_t *out;
} Encoder;

/* L has outgrown 32 bits: add one to the last byte that is written.  It never is the first. */
static void carry(Encoder *encoder)
{
    size_t place = encoder->count;

    encoder->low &= whole;
    if (encoder->out == NULL)
        return;
    while (encoder->out[--place] == 0xFF)
        encoder->out[place] = 0;
    encoder->out[place]++;
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
        if (encoder->out != NULL)
            encoder->out[encoder->count] = (uint8_t)(encoder->low >> 24);
        encoder->count++;
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
    for (int i = more; i-- > 0; encoder->count++)
        if (encoder->out != NULL)
            encoder->out[encoder->count] = (uint8_t)(value >> 8 * i);
}

/* Return the size of the code word; `out` may be NULL. */
static size_t encode(const int64_t *integers, size_t count, Law law, uint8_t *out)
{
    Encoder encoder = {0, whole, 0, out};

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

/* C - L, R, and how many bytes of the data C has. */
typedef struct {
    const uint8_t *data;
    size_t size, taken;
    uint32_t ahead, width;
} Decoder;

/* The next byte; zeros stand behind the end. */
static void take_byte(Decoder *decoder)
{
    uint8_t byte = decoder->taken < decoder->size ? decoder->data[decoder->taken] : 0;

    decoder->ahead = decoder->ahead << 8 | byte;
    decoder->taken++;
}

static int take(Decoder *decoder, uint32_t probability)
{
    uint32_t bound = (decoder->width >> 16) * probability;
    int bit = decoder->ahead < bound;

    if (bit) {
        decoder->width = bound;
    } else {
        decoder->ahead -= bound;
        decoder->width -= bound;
    }
    for (; decoder->width < least; decoder->width <<= 8) {
        /* N is at most the length of the code word minus 1; taken is N + 4. */
        if (decoder->taken - 3 >= decoder->size)
            fail("the integers are cut off");
        take_byte(decoder);
    }
    return bit;
}

static int64_t take_integer(Decoder *decoder, Law law)
{
    int64_t raw = 0, n = 1;
    uint32_t e = 0;

    for (uint32_t i = 0; i < law.raw; i++)
        raw = raw << 1 | take(decoder, HALF);
    while (take(decoder, law.theta))
        if (++e + law.raw > LARGEST_EXPONENT)
            fail("an integer is 2^62 or more");
    for (uint32_t i = 0; i < e; i++)
        n = n << 1 | take(decoder, HALF);
    return (n << law.raw) | raw;
}

void read_integers(const uint8_t *data, size_t size, Law law, size_t count, int64_t *integers)
{
    Decoder decoder = {data, size, 0, 0, whole};
    uint8_t *again;
    size_t length;

    for (int i = 0; i < 4; i++)
        take_byte(&decoder);
    for (size_t i = 0; i < count; i++)
        integers[i] = take_integer(&decoder, law);
    again = write_integers(integers, count, law, &length);
    if (length != size || memcmp(again, data, size) != 0)
        fail("the bytes are not the code word of their integers");
}
