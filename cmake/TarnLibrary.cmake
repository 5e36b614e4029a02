# The libraries. Each folder of the runtime is an object library; from all of
# their objects come
#   tarn           libtarn.a: one relocatable object whose only global symbols
#                  are the public ones
#   tarn_shared    libtarn.so
#   tarn_internal  the same object with all symbols left, for tests of internals

set(TARN_LAYERS base heap sched stackscan gc)
set(tarn_objects)
foreach(layer IN LISTS TARN_LAYERS)
    set(dir ${PROJECT_SOURCE_DIR}/${layer})
    file(GLOB sources CONFIGURE_DEPENDS ${dir}/*.c ${dir}/*.S)
    list(REMOVE_ITEM sources ${PROJECT_SOURCE_DIR}/heap/mksizeclasses.c)
    if(sources)
        add_library(tarn_${layer} OBJECT ${sources})
        target_link_libraries(tarn_${layer} PRIVATE tarn_layer_flags)
        list(APPEND tarn_objects $<TARGET_OBJECTS:tarn_${layer}>)
    endif()
endforeach()
if(NOT tarn_objects)
    message(FATAL_ERROR "No sources in any of: ${TARN_LAYERS}")
endif()

# A plain name, not an imported target: it is also what an installed package
# must say. (It stands for -lmimalloc, or for a target of that name.)
set(tarn_dependencies mimalloc pthread ${CMAKE_DL_LIBS})

find_program(TARN_LD NAMES ld.bfd ld REQUIRED)
add_library(tarn_no_split_stack OBJECT
    ${PROJECT_SOURCE_DIR}/cmake/no_split_stack.S)
set(whole ${PROJECT_BINARY_DIR}/tarn-internal.o)
set(public ${PROJECT_BINARY_DIR}/tarn.o)
set(parts ${tarn_objects} $<TARGET_OBJECTS:tarn_no_split_stack>)
add_custom_command(
    OUTPUT ${whole}
    COMMAND ${TARN_LD} -r -o ${whole} ${parts}
    DEPENDS ${parts}
    COMMENT "Linking tarn-internal.o"
    COMMAND_EXPAND_LISTS VERBATIM)
add_custom_command(
    OUTPUT ${public}
    COMMAND ${CMAKE_OBJCOPY} --localize-hidden ${whole} ${public}
    DEPENDS ${whole}
    COMMENT "Hiding internal symbols in tarn.o"
    VERBATIM)
set_source_files_properties(${whole} ${public} PROPERTIES
    EXTERNAL_OBJECT TRUE GENERATED TRUE)

add_library(tarn STATIC ${public})
set_target_properties(tarn PROPERTIES LINKER_LANGUAGE C)

add_library(tarn_shared SHARED ${tarn_objects})
set_target_properties(tarn_shared PROPERTIES LINKER_LANGUAGE C
    OUTPUT_NAME tarn EXPORT_NAME shared
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR})
# -Bsymbolic-functions: calls between public functions stay inside. Not for
# data: a program may hold its own copy of tarn_barrier_on (copy relocation).
target_link_options(tarn_shared PRIVATE
    -Wl,-Bsymbolic-functions -Wl,-z,relro -Wl,-z,now
    -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/tarn.map)
set_property(TARGET tarn_shared APPEND PROPERTY
    LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/tarn.map)
if(NOT TARN_SANITIZE)
    target_link_options(tarn_shared PRIVATE -Wl,-z,defs)
endif()

# All of it as one tarn.c, tarn.S and tarn.h.
add_custom_target(amalgamation
    COMMAND bash ${PROJECT_SOURCE_DIR}/cmake/amalgamate.sh
        ${PROJECT_BINARY_DIR}/amalgamation
    COMMENT "Writing amalgamation/tarn.c, tarn.S, tarn.h" VERBATIM)

foreach(library tarn tarn_shared)
    target_include_directories(${library} INTERFACE
        $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
target_link_libraries(tarn INTERFACE ${tarn_dependencies})
target_link_libraries(tarn_shared PRIVATE ${tarn_dependencies})
# For modules that a program with the runtime loads: see there.
add_library(tarn_module STATIC ${PROJECT_SOURCE_DIR}/cmake/module_stubs.S)
set_target_properties(tarn_module PROPERTIES LINKER_LANGUAGE C
    EXPORT_NAME module)
target_include_directories(tarn_module INTERFACE
    $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
    $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
add_library(tarn::module ALIAS tarn_module)
add_library(tarn::tarn ALIAS tarn)
add_library(tarn::shared ALIAS tarn_shared)

add_library(tarn_internal STATIC EXCLUDE_FROM_ALL ${whole})
add_dependencies(tarn_internal tarn)
set_target_properties(tarn_internal PROPERTIES LINKER_LANGUAGE C)
target_link_libraries(tarn_internal INTERFACE tarn_flags ${tarn_dependencies})
