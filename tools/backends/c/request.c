/* Failure and memory: a request that fails part-way leaves nothing behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "refmiracle.h"

/* Stands before each piece of memory; the other members align what follows. */
typedef union Header {
    union Header *next;
    int64_t integer;
    long double real;
} Header;

static Header *pieces;
static jmp_buf start;
static const char *culprit;
static char message[320];

int attempt(void (*work)(void *), void *argument)
{
    culprit = NULL;
    if (setjmp(start) != 0)
        return 0;
    work(argument);
    return 1;
}

void blame(const char *name)
{
    culprit = name;
}

void fail(const char *format, ...)
{
    va_list arguments;
    int length = 0;

    if (culprit != NULL)
        length = snprintf(message, sizeof message / 2, "%s: ", culprit);
    if (length < 0 || (size_t)length >= sizeof message / 2)
        length = 0; /* a name without end */
    va_start(arguments, format);
    vsnprintf(message + length, sizeof message - (size_t)length, format, arguments);
    va_end(arguments);
    longjmp(start, 1);
}

const char *failure(void)
{
    return message;
}

void *allocate(size_t count, size_t size)
{
    Header *piece = NULL;

    if (size == 0 || count <= (SIZE_MAX - sizeof(Header)) / size)
        piece = calloc(1, sizeof(Header) + count * size);
    if (piece == NULL)
        fail("there is no memory for %lu elements", (unsigned long)count);
    piece->next = pieces;
    pieces = piece;
    return piece + 1;
}

void *shrink(size_t size)
{
    Header *piece = realloc(pieces, sizeof(Header) + size);

    if (piece != NULL)
        pieces = piece;
    return pieces + 1;
}

void release(void)
{
    while (pieces != NULL) {
        Header *next = pieces->next;

        free(pieces);
        pieces = next;
    }
}
