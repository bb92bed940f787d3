/* A processor that advertises what it may not use, for any Linux machine.
 *
 * Preloaded into an engine worker, this stands between libllama and libggml. When the model asks for the extra buffer
 * types of the CPU backend (it does so exactly when llama_model_params.use_extra_bufts is true), that is remembered,
 * and the first forward pass ends with a real SIGSEGV inside the engine, as an AMX kernel's does. Without that question
 * every call is handed on untouched.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <string.h>

typedef void *(*proc_address_function)(void *registration, const char *name);
typedef int (*compute_function)(void *scheduler, void *graph);

static volatile int extra_buffers_asked_for;
static int *volatile nowhere;

/* The function of that name which the library containing `caller` would have called. It was loaded with local scope,
 * so RTLD_NEXT does not see it. */
static void *behind(const void *caller, const char *name) {
    Dl_info place;
    void *library;
    if (!dladdr(caller, &place)) return 0;
    library = dlopen(place.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    return library ? dlsym(library, name) : 0;
}

void *ggml_backend_reg_get_proc_address(void *registration, const char *name) {
    static proc_address_function real;
    if (!real) real = (proc_address_function)behind(__builtin_return_address(0), "ggml_backend_reg_get_proc_address");
    if (strcmp(name, "ggml_backend_dev_get_extra_bufts") == 0) extra_buffers_asked_for = 1;
    return real(registration, name);
}

int ggml_backend_sched_graph_compute_async(void *scheduler, void *graph) {
    static compute_function real;
    if (extra_buffers_asked_for) *nowhere = 1;
    if (!real) real = (compute_function)behind(__builtin_return_address(0), "ggml_backend_sched_graph_compute_async");
    return real(scheduler, graph);
}
