/* Base64 of RFC 4648, section 4: with padding, without line breaks. */
#include <string.h>

#include "protocol.h"

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static int value_of(char c)
{
    const char *found = c == '\0' ? NULL : strchr(alphabet, c);

    return found == NULL ? -1 : (int)(found - alphabet);
}

uint8_t *base64_decode(const char *string, size_t length, size_t *size)
{
    signed char values[256];
    size_t padding = 0;
    uint8_t *data, *to;

    for (int c = 0; c < 256; c++)
        values[c] = (signed char)value_of((char)c);
    if (length % 4 != 0)
        fail("base64 comes in groups of four characters");
    while (padding < 2 && padding < length && string[length - 1 - padding] == '=')
        padding++;
    data = to = allocate(length / 4 * 3, 1);
    for (size_t i = 0; i < length; i += 4) {
        uint32_t group = 0;

        for (size_t k = 0; k < 4; k++) {
            int value = i + k < length - padding ? values[(unsigned char)string[i + k]] : 0;

            if (value < 0)
                fail("a character that is not of base64");
            group = group << 6 | (uint32_t)value;
        }
        *to++ = (uint8_t)(group >> 16);
        *to++ = (uint8_t)(group >> 8);
        *to++ = (uint8_t)group;
    }
    *size = length / 4 * 3 - padding;
    /* The bits that padding leaves over are zero in canonical base64. */
    for (size_t i = *size; i < length / 4 * 3; i++)
        if (data[i] != 0)
            fail("base64 with bits behind its end");
    return data;
}

void base64_write(FILE *out, const uint8_t *data, size_t size)
{
    char line[4096];
    size_t used = 0;

    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t group = (uint32_t)data[i] << 16;

        if (left > 1)
            group |= (uint32_t)data[i + 1] << 8;
        if (left > 2)
            group |= data[i + 2];
        line[used++] = alphabet[group >> 18];
        line[used++] = alphabet[group >> 12 & 63];
        line[used++] = left > 1 ? alphabet[group >> 6 & 63] : '=';
        line[used++] = left > 2 ? alphabet[group & 63] : '=';
        if (used == sizeof line) {
            fwrite(line, 1, used, out);
            used = 0;
        }
    }
    fwrite(line, 1, used, out);
}
