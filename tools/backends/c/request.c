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
static char message[256];

int attempt(void (*work)(void *), void *argument)
{
    if (setjmp(start) != 0)
        return 0;
    work(argument);
    return 1;
}

void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
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

void release(void)
{
    while (pieces != NULL) {
        Header *next = pieces->next;

        free(pieces);
        pieces = next;
    }
}
