/* Runs one function of a precompiled component on another architecture: the engine's C interface, as
 * far as that takes, against the shared library that the engine's own project publishes.
 *
 *   run CODE.cwasm FUNCTION N [concurrent]
 *
 * FUNCTION takes a number of 32 bits and returns one. Prints it, or what went wrong. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { size_t size; char *data; } name_t;
typedef struct { uint8_t kind; union { uint32_t u32; uint64_t room[6]; } of; } value_t;
typedef struct { uint64_t room[4]; } handle_t;

void *wasm_config_new(void);
void *wasm_engine_new_with_config(void *config);
void wasmtime_config_epoch_interruption_set(void *config, bool);
void wasmtime_config_concurrency_support_set(void *config, bool);
void *wasmtime_store_new(void *engine, void *data, void (*finalizer)(void *));
void *wasmtime_store_context(void *store);
void wasmtime_context_set_epoch_deadline(void *context, uint64_t ticks);
void *wasmtime_component_deserialize_file(void *engine, const char *path, void **component);
void *wasmtime_component_linker_new(void *engine);
void *wasmtime_component_linker_define_unknown_imports_as_traps(void *linker, void *component);
void *wasmtime_component_linker_instantiate(void *, void *, void *, handle_t *instance);
void *wasmtime_component_instance_get_export_index(handle_t *, void *, void *, const char *,
                                                   size_t);
bool wasmtime_component_instance_get_func(handle_t *, void *, void *index, handle_t *func);
void *wasmtime_component_func_call(handle_t *, void *, value_t *, size_t, value_t *, size_t);
void wasmtime_error_message(void *error, name_t *message);

enum { U32 = 6 };

static void check(const char *what, void *error) {
    if (!error) return;
    name_t text;
    wasmtime_error_message(error, &text);
    printf("%s: %.*s\n", what, (int)text.size, text.data);
    exit(1);
}

int main(int count, char **words) {
    if (count < 4) return 2;
    bool concurrent = count > 4 && !strcmp(words[4], "concurrent");
    void *config = wasm_config_new(), *component = NULL;
    wasmtime_config_epoch_interruption_set(config, true);
    wasmtime_config_concurrency_support_set(config, concurrent);
    void *engine = wasm_engine_new_with_config(config);
    check("load", wasmtime_component_deserialize_file(engine, words[1], &component));
    void *context = wasmtime_store_context(wasmtime_store_new(engine, NULL, NULL));
    wasmtime_context_set_epoch_deadline(context, 1000);
    void *linker = wasmtime_component_linker_new(engine);
    check("link", wasmtime_component_linker_define_unknown_imports_as_traps(linker, component));
    handle_t instance, func;
    check("start", wasmtime_component_linker_instantiate(linker, context, component, &instance));
    void *index = wasmtime_component_instance_get_export_index(&instance, context, NULL, words[2],
                                                               strlen(words[2]));
    if (!index || !wasmtime_component_instance_get_func(&instance, context, index, &func)) {
        printf("no function %s\n", words[2]);
        return 1;
    }
    value_t argument = {.kind = U32, .of.u32 = (uint32_t)strtoul(words[3], NULL, 10)};
    value_t result = {0};
    check("call", wasmtime_component_func_call(&func, context, &argument, 1, &result, 1));
    printf("%" PRIu32 "\n", result.of.u32);
    return 0;
}
