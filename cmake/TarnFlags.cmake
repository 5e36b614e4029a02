# Compile flags. tarn_flags: for the runtime and everything built with it in
# this tree; tarn_layer_flags: for the runtime's own files only.

check_include_file(mimalloc.h TARN_HAVE_MIMALLOC_H)
if(NOT TARN_HAVE_MIMALLOC_H)
    message(FATAL_ERROR "mimalloc.h is missing: run ./dev setup, or install "
        "libmimalloc-dev")
endif()

# By folder, so that a folder below can take one back.
add_compile_options(-Wall -Wextra -Werror)

add_library(tarn_flags INTERFACE)
target_compile_options(tarn_flags INTERFACE
    $<$<COMPILE_LANGUAGE:C>:-std=gnu11>
    -fno-strict-aliasing -fno-omit-frame-pointer)
target_compile_definitions(tarn_flags INTERFACE TARN_CHECKS=${TARN_CHECKS})
# The root for quoted includes only: our gc/gc.h is not the <gc/gc.h> of others.
target_compile_options(tarn_flags INTERFACE "SHELL:-iquote ${PROJECT_SOURCE_DIR}")
target_include_directories(tarn_flags INTERFACE ${PROJECT_SOURCE_DIR}/include)

# One set of objects serves both libraries, so they are position-independent.
# Thread-local variables still take one instruction: initial-exec. Without a
# PLT no call binds its symbol when first made, which takes more stack than
# there is where the runtime works on small ones.
add_library(tarn_layer_flags INTERFACE)
target_compile_options(tarn_layer_flags INTERFACE
    -fvisibility=hidden -fPIC -fno-plt -ftls-model=initial-exec
    $<$<COMPILE_LANGUAGE:ASM>:-Wa,--noexecstack>)
# The runtime's own code is never interrupted: no restartable sequences in it.
target_compile_definitions(tarn_layer_flags INTERFACE TARN_RUNTIME=1)
target_link_libraries(tarn_layer_flags INTERFACE tarn_flags)

if(TARN_SANITIZE)
    if(NOT TARN_SANITIZE MATCHES "^(address|thread|undefined)$")
        message(FATAL_ERROR "TARN_SANITIZE=${TARN_SANITIZE}: not one of "
            "address, thread, undefined")
    endif()
    set(sanitize -fsanitize=${TARN_SANITIZE})
    add_link_options(-fsanitize=${TARN_SANITIZE})
    if(TARN_SANITIZE STREQUAL "undefined")
        list(APPEND sanitize -fno-sanitize-recover=all)
        # The runtime has frames on stacks that move: see tarn_managed_sources.
        target_compile_options(tarn_layer_flags INTERFACE
            $<$<COMPILE_LANGUAGE:C>:-fno-sanitize=object-size>)
    endif()
    # Instrumented code confuses gcc about what is initialised; and it warns
    # of fences, which its thread sanitizer does not follow.
    if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
        list(APPEND sanitize -Wno-maybe-uninitialized -Wno-tsan)
    endif()
    add_compile_options("$<$<NOT:$<COMPILE_LANGUAGE:ASM>>:${sanitize}>")
endif()
