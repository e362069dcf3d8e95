/* Reads questions, finds the operation, writes answers. */
#include <stdlib.h>
#include <string.h>

#include "protocol.h"

enum { MOST_INPUTS = 32 };
static const size_t longest_line = (size_t)1 << 28;

typedef struct {
    Text text;
    const char *operation, *dtype;
    Array inputs[MOST_INPUTS];
    int count;
    const Operation *found; /* null for hello */
    Array outputs[MOST_ARGUMENTS];
} Question;

static void read_input(Text *text, const char *key, void *context)
{
    Question *question = context;
    int i = 0;

    /* Of a name that stands twice the last one counts, as in Python. */
    while (i < question->count && strcmp(question->inputs[i].name, key) != 0)
        i++;
    if (i == MOST_INPUTS)
        fail("there are more than %d inputs", MOST_INPUTS);
    question->inputs[i] = array_read(text);
    question->inputs[i].name = key;
    if (i == question->count)
        question->count++;
}

static void read_member(Text *text, const char *key, void *context)
{
    Question *question = context;

    if (strcmp(key, "operation") == 0) {
        question->operation = json_string(text, NULL);
    } else if (strcmp(key, "dtype") == 0) {
        question->dtype = json_string(text, NULL);
    } else if (strcmp(key, "inputs") == 0) {
        question->count = 0;
        json_object(text, read_input, question);
    } else {
        json_skip(text);
    }
}

static const Operation *find_operation(const char *name)
{
    for (const Operation *o = operations_bits; o->name != NULL; o++)
        if (strcmp(o->name, name) == 0)
            return o;
    for (const Operation *o = operations_reals; o->name != NULL; o++)
        if (strcmp(o->name, name) == 0)
            return o;
    fail("unknown operation %.40s", name);
}

/* Copy the next of some names and return what follows it, or null behind the last. */
static const char *next_name(const char *names, char name[32])
{
    size_t length = strcspn(names, " ");

    if (length == 0)
        return NULL;
    memcpy(name, names, length);
    name[length] = '\0';
    return names + length + (names[length] == ' ');
}

/* Put the inputs in the order of the operation's arguments. */
static void sort_inputs(const Question *question, Array *arguments)
{
    const char *names = question->found->inputs;
    char name[32];

    while ((names = next_name(names, name)) != NULL) {
        int i = 0;

        while (i < question->count && strcmp(question->inputs[i].name, name) != 0)
            i++;
        if (i == question->count)
            fail("the input %s is missing", name);
        *arguments++ = question->inputs[i];
    }
}

static void work(void *context)
{
    Question *question = context;
    Array arguments[MOST_ARGUMENTS] = {{0}};

    json_object(&question->text, read_member, question);
    json_end(&question->text);
    if (question->operation == NULL)
        fail("the question names no operation");
    if (strcmp(question->operation, "hello") == 0)
        return;
    question->found = find_operation(question->operation);
    if (strcmp(question->dtype, "") != 0 && strcmp(question->dtype, "float64") != 0)
        fail("the working precision %.20s is not declared", question->dtype);
    sort_inputs(question, arguments);
    question->found->run(arguments, question->outputs);
}

static void write_names(FILE *out, const Operation *operations, const char *divider)
{
    for (; operations->name != NULL; operations++) {
        fputs(divider, out);
        json_write_string(out, operations->name);
        divider = ", ";
    }
}

static void write_hello(FILE *out)
{
    fputs("{\"name\": \"refmiracle C99 backend\", \"version\": \"1.0\", \"operations\": [", out);
    write_names(out, operations_bits, "");
    write_names(out, operations_reals, ", ");
    fputs("], \"dtypes\": [\"float64\"]}", out);
}

static void write_outputs(FILE *out, const Question *question)
{
    const char *names = question->found->outputs;
    const char *divider = "{\"outputs\": {";
    char name[32];

    for (int i = 0; (names = next_name(names, name)) != NULL; i++) {
        fputs(divider, out);
        json_write_string(out, name);
        fputs(": ", out);
        array_write(out, &question->outputs[i]);
        divider = ", ";
    }
    fputs("}}", out);
}

static void answer(const char *line, size_t length, FILE *out)
{
    Question *question = calloc(1, sizeof *question);

    if (question == NULL) {
        fputs("{\"error\": \"there is no memory for the question\"}", out);
        return;
    }
    question->dtype = "";
    question->text.at = line;
    question->text.end = line + length;
    if (!attempt(work, question)) {
        fputs("{\"error\": ", out);
        json_write_string(out, failure());
        putc('}', out);
    } else if (question->found == NULL) {
        write_hello(out);
    } else {
        write_outputs(out, question);
    }
    release();
    free(question);
}

/* --- lines */

typedef struct {
    char *text;
    size_t length, capacity;
    int too_long;
} Line;

static void append(Line *line, char c)
{
    if (line->length == line->capacity && !line->too_long) {
        size_t capacity = line->capacity == 0 ? 4096 : 2 * line->capacity;
        char *text = capacity > longest_line ? NULL : realloc(line->text, capacity);

        if (text == NULL) {
            line->too_long = 1;
        } else {
            line->text = text;
            line->capacity = capacity;
        }
    }
    if (!line->too_long)
        line->text[line->length++] = c;
}

/* Return 0 at the end of the input; a last line may lack its line feed. */
static int read_line(FILE *in, Line *line)
{
    int c;

    line->length = 0;
    line->too_long = 0;
    while ((c = getc(in)) != EOF && c != '\n')
        append(line, (char)c);
    return c != EOF || line->length > 0 || line->too_long;
}

int serve(FILE *in, FILE *out)
{
    Line line = {NULL, 0, 0, 0};
    int sound = 1;

    while (sound && read_line(in, &line)) {
        if (line.too_long)
            fputs("{\"error\": \"the line is too long\"}", out);
        else
            answer(line.length > 0 ? line.text : "", line.length, out);
        putc('\n', out);
        sound = fflush(out) == 0 && !ferror(out);
    }
    free(line.text);
    return sound && !ferror(in) ? 0 : 1;
}
