/* A reader of JSON (RFC 8259) that goes through the text once and builds no tree. */
#include <string.h>

#include "protocol.h"

enum { DEEPEST = 64 };

static char peek(Text *text)
{
    while (text->at < text->end && memchr(" \t\r\n", *text->at, 4) != NULL)
        text->at++;
    return text->at < text->end ? *text->at : '\0';
}

int json_take(Text *text, char character)
{
    if (peek(text) != character || text->at == text->end)
        return 0;
    text->at++;
    return 1;
}

void json_expect(Text *text, char character)
{
    if (!json_take(text, character))
        fail("malformed JSON: '%c' is missing", character);
}

void json_end(Text *text)
{
    peek(text);
    if (text->at != text->end)
        fail("malformed JSON: something follows the object");
}

static unsigned hex4(Text *text)
{
    static const char digits[] = "0123456789abcdef";
    unsigned value = 0;

    if (text->end - text->at < 4)
        fail("malformed JSON: a \\u escape is cut off");
    for (int i = 0; i < 4; i++) {
        char c = *text->at++;
        const char *digit;

        if (c >= 'A' && c <= 'F')
            c = (char)(c - 'A' + 'a');
        digit = memchr(digits, c, 16);
        if (digit == NULL)
            fail("malformed JSON: a \\u escape takes four hexadecimal digits");
        value = value << 4 | (unsigned)(digit - digits);
    }
    return value;
}

/* Append a code point in UTF-8. */
static char *put_utf8(char *to, unsigned c)
{
    if (c < 0x80) {
        *to++ = (char)c;
        return to;
    }
    if (c < 0x800) {
        *to++ = (char)(0xC0 | c >> 6);
    } else {
        if (c < 0x10000) {
            *to++ = (char)(0xE0 | c >> 12);
        } else {
            *to++ = (char)(0xF0 | c >> 18);
            *to++ = (char)(0x80 | (c >> 12 & 0x3F));
        }
        *to++ = (char)(0x80 | (c >> 6 & 0x3F));
    }
    *to++ = (char)(0x80 | (c & 0x3F));
    return to;
}

/* Read the escape whose backslash has been taken. */
static char *put_escape(Text *text, char *to)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *letter = text->at < text->end ? memchr(letters, *text->at, 8) : NULL;
    unsigned c;

    if (letter != NULL) {
        text->at++;
        *to++ = meanings[letter - letters];
        return to;
    }
    if (text->at == text->end || *text->at++ != 'u')
        fail("malformed JSON: an unknown escape");
    c = hex4(text);
    if (c >= 0xD800 && c < 0xDC00) {
        unsigned low = 0;

        if (text->end - text->at >= 2 && text->at[0] == '\\' && text->at[1] == 'u') {
            text->at += 2;
            low = hex4(text);
        }
        if (low < 0xDC00 || low > 0xDFFF)
            fail("malformed JSON: half a surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    } else if (c >= 0xDC00 && c <= 0xDFFF) {
        fail("malformed JSON: half a surrogate pair");
    }
    if (c == 0)
        fail("no string of this protocol holds a zero character");
    return put_utf8(to, c);
}

/* Return where the string ends that begins at text->at. */
static const char *closing_quote(const Text *text)
{
    for (const char *p = text->at; p < text->end; p++) {
        if (*p == '"')
            return p;
        if (*p == '\\' && p + 1 < text->end)
            p++;
    }
    fail("malformed JSON: a string does not end");
}

char *json_string(Text *text, size_t *length)
{
    char *string, *to;

    json_expect(text, '"');
    /* An escape is never shorter than what it stands for. */
    string = to = allocate((size_t)(closing_quote(text) - text->at) + 1, 1);
    for (;;) {
        char c = *text->at++; /* the closing quote is there, so this stops at it */

        if (c == '"')
            break;
        if ((unsigned char)c < 0x20)
            fail("malformed JSON: a control character in a string");
        if (c == '\\')
            to = put_escape(text, to);
        else
            *to++ = c;
    }
    if (length != NULL)
        *length = (size_t)(to - string);
    return string;
}

static int is_digit(const Text *text)
{
    return text->at < text->end && *text->at >= '0' && *text->at <= '9';
}

size_t json_size(Text *text)
{
    size_t value = 0;
    int leading_zero = peek(text) == '0', digits = 0;

    for (; is_digit(text); digits++) {
        size_t digit = (size_t)(*text->at++ - '0');

        if (value > (SIZE_MAX - digit) / 10)
            fail("a number is too large");
        value = 10 * value + digit;
    }
    if (digits == 0 || (leading_zero && digits > 1))
        fail("expected a nonnegative integer");
    if (text->at < text->end && memchr(".eE", *text->at, 3) != NULL)
        fail("expected an integer");
    return value;
}

void json_object(Text *text, void (*member)(Text *, const char *key, void *), void *context)
{
    json_expect(text, '{');
    if (json_take(text, '}'))
        return;
    do {
        const char *key = json_string(text, NULL);

        json_expect(text, ':');
        member(text, key, context);
    } while (json_take(text, ','));
    json_expect(text, '}');
}

void json_list(Text *text, void (*element)(Text *, void *), void *context)
{
    json_expect(text, '[');
    if (json_take(text, ']'))
        return;
    do {
        element(text, context);
    } while (json_take(text, ','));
    json_expect(text, ']');
}

static void skip_digits(Text *text)
{
    if (!is_digit(text))
        fail("malformed JSON: a number lacks digits");
    while (is_digit(text))
        text->at++;
}

static void skip_number(Text *text)
{
    if (*text->at == '-')
        text->at++;
    if (text->at < text->end && *text->at == '0')
        text->at++;
    else
        skip_digits(text);
    if (text->at < text->end && *text->at == '.') {
        text->at++;
        skip_digits(text);
    }
    if (text->at < text->end && (*text->at == 'e' || *text->at == 'E')) {
        text->at++;
        if (text->at < text->end && (*text->at == '+' || *text->at == '-'))
            text->at++;
        skip_digits(text);
    }
}

static void skip_word(Text *text, const char *word)
{
    size_t length = strlen(word);

    if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length) != 0)
        fail("malformed JSON: expected a value");
    text->at += length;
}

static void skip_value(Text *text, void *context);

static void skip_member(Text *text, const char *key, void *context)
{
    (void)key;
    skip_value(text, context);
}

static void skip_value(Text *text, void *context)
{
    int depth = *(int *)context + 1;

    if (depth > DEEPEST)
        fail("the JSON is nested too deeply");
    switch (peek(text)) {
    case '{':
        json_object(text, skip_member, &depth);
        return;
    case '[':
        json_list(text, skip_value, &depth);
        return;
    case '"':
        json_string(text, NULL);
        return;
    case 't':
        skip_word(text, "true");
        return;
    case 'f':
        skip_word(text, "false");
        return;
    case 'n':
        skip_word(text, "null");
        return;
    default:
        if (text->at == text->end)
            fail("malformed JSON: expected a value");
        skip_number(text);
    }
}

void json_skip(Text *text)
{
    int depth = 0;

    skip_value(text, &depth);
}

void json_write_string(FILE *out, const char *string)
{
    putc('"', out);
    for (; *string != '\0'; string++) {
        if (*string == '"' || *string == '\\')
            putc('\\', out);
        putc(*string >= 0x20 && *string < 0x7F ? *string : '?', out);
    }
    putc('"', out);
}
