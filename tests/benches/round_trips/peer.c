/*
 * The measured commands as a module of Redis 7, built by the bench.
 *
 * Debian has the server without the header for its modules, so the few declarations that are needed stand here. A
 * module's context begins with the address of the function by which all others are found by name.
 */
#include <stddef.h>

typedef struct Context Context;
typedef struct String String;
typedef int Command(Context *context, String **words, int count);

enum { OK = 0, ERR = 1, API_VERSION = 1, MODULE_VERSION = 1 };

static void (*set_attributes)(Context *, const char *name, int version, int api);
static int (*create_command)(Context *, const char *name, Command *, const char *flags, int first, int last, int step);
static int (*wrong_arity)(Context *);
static int (*reply_error)(Context *, const char *text);
static int (*reply_number)(Context *, long long);
static int (*reply_string)(Context *, String *);
static int (*read_number)(const String *, long long *);

static int echo(Context *context, String **words, int count)
{
    return count == 2 ? reply_string(context, words[1]) : wrong_arity(context);
}

static int add(Context *context, String **words, int count)
{
    long long a, b;
    if (count != 3)
        return wrong_arity(context);
    if (read_number(words[1], &a) != OK || read_number(words[2], &b) != OK)
        return reply_error(context, "ERR two numbers are needed");
    return reply_number(context, a + b);
}

int RedisModule_OnLoad(Context *context, String **words, int count)
{
    (void)words;
    (void)count;
    int (*find)(const char *, void *) = (int (*)(const char *, void *))(size_t)((void **)context)[0];
    if (find("RedisModule_SetModuleAttribs", &set_attributes) != OK ||
        find("RedisModule_CreateCommand", &create_command) != OK ||
        find("RedisModule_WrongArity", &wrong_arity) != OK ||
        find("RedisModule_ReplyWithError", &reply_error) != OK ||
        find("RedisModule_ReplyWithLongLong", &reply_number) != OK ||
        find("RedisModule_ReplyWithString", &reply_string) != OK ||
        find("RedisModule_StringToLongLong", &read_number) != OK)
        return ERR;
    set_attributes(context, "peer", MODULE_VERSION, API_VERSION);
    if (create_command(context, "peer.echo", echo, "fast", 0, 0, 0) != OK)
        return ERR;
    return create_command(context, "peer.add", add, "fast", 0, 0, 0);
}
