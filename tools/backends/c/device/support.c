/* What request.c is elsewhere, for a machine that has no memory to give: it refuses networks that files
 * describe, and all else here needs none.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include "../refmiracle.h"

static jmp_buf refusal;
static char message[160];

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
    (void)count;
    (void)size;
    fail("it calls for memory that there is not: it describes its network");
}
