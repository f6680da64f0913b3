/* Starts Python in a server's first process and imports there what its sessions would each import for themselves.

   Loaded before the server's program (LD_PRELOAD); sessions are forked from this process, and find what is imported. */

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void warm(int argc, char **argv)
{
    char program[4096];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    const char *library = getenv("WARM_PYTHON"), *imports = getenv("WARM_IMPORTS");

    if (length < 0 || library == NULL || imports == NULL)
        return;
    /* pg_ctl asks for the version before it starts the server. */
    if (argc == 2 && strcmp(argv[1], "-V") == 0)
        return;
    program[length] = '\0';
    if (strcmp(strrchr(program, '/'), "/postgres") != 0)
        return;
    /* What a session starts is not warmed. */
    unsetenv("LD_PRELOAD");

    void *python = dlopen(library, RTLD_NOW | RTLD_GLOBAL);
    if (python == NULL)
        return;
    void (*initialize)(int) = (void (*)(int)) dlsym(python, "Py_InitializeEx");
    int (*run)(const char *) = (int (*)(const char *)) dlsym(python, "PyRun_SimpleString");
    if (initialize == NULL || run == NULL)
        return;
    initialize(0);
    run(imports);
}
