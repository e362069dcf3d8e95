/* What request.c is elsewhere, for a machine that has no memory to give but one static array: the layers
 * of a network that a file describes stand there, and all else here needs none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

typedef union {
    void *pointer;
    uint64_t integer;
} Cell;

static jmp_buf refusal;
static char message[160];
static Cell memory[(DESCRIPTION + sizeof(Cell) - 1) / sizeof(Cell)];
static size_t taken; /* cells */

int attempt(void (*work)(void *), void *argument)
{
    if (setjmp(refusal) != 0)
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
    longjmp(refusal, 1);
}

const char *failure(void)
{
    return message;
}

void *allocate(size_t count, size_t size)
{
    size_t cells = (count * size + sizeof(Cell) - 1) / sizeof(Cell); /* of a layer or a tensor times their most */
    Cell *piece = memory + taken;

    if (cells > sizeof memory / sizeof *memory - taken)
        fail("it describes its network, for which there is no room");
    memset(piece, 0, cells * sizeof(Cell));
    taken += cells;
    return piece;
}

void release(void)
{
    taken = 0;
}
