# tarn_managed_sources(<target> [<source>...])
#
# Compiles the given C sources of a target (all of them if none is given) for
# copying stacks: -fsplit-stack puts a stack check into each prologue, which
# Tarn answers. Whatever links the target is linked by lld, which gives
# functions that call code without such checks (libc, other libraries) enough
# stack for it. clang cannot compile variadic functions this way; keep those in
# sources that are not managed.
#
# lld does not know prologues that begin with endbr64, which some distributions
# make the default: -fcf-protection=none takes it away.
#
# -include tarn/managed.h tells the runtime where the text of the sources is, so
# that goroutines can be stopped anywhere in it; -fno-lto keeps it together.
#
# -fno-sanitize=object-size: compilers compute an address minus that of its object
# for this check of UndefinedBehaviorSanitizer, and keep the part that does not
# change in a loop, 8 - &object: no word that a move of the stack adjusts.
#
# Such a target links tarn::tarn, the static library: lld cannot redirect its
# calls to a shared one. But a MODULE, which a program loads that has the
# runtime (and exports it: ENABLE_EXPORTS), links tarn::module, which this does.
#
# -fsplit-stack is never passed to the link: the compiler driver would add its
# own runtime library for it, in place of Tarn.

function(tarn_managed_sources target)
    if(NOT TARGET ${target})
        message(FATAL_ERROR "tarn_managed_sources: no target \"${target}\"")
    endif()
    get_property(lld_works GLOBAL PROPERTY TARN_LLD_WORKS)
    if(NOT lld_works)
        execute_process(
            COMMAND ${CMAKE_C_COMPILER} -fuse-ld=lld -Wl,--version
            OUTPUT_QUIET ERROR_QUIET RESULT_VARIABLE status)
        if(NOT status EQUAL 0)
            message(FATAL_ERROR "tarn_managed_sources: "
                "\"${CMAKE_C_COMPILER} -fuse-ld=lld\" does not work. Code "
                "with copying stacks must be linked by lld; install it "
                "(Debian, Ubuntu, Fedora: package lld).")
        endif()
        set_property(GLOBAL PROPERTY TARN_LLD_WORKS TRUE)
    endif()

    if(ARGN)
        set_property(SOURCE ${ARGN} APPEND PROPERTY
            COMPILE_OPTIONS -fsplit-stack -fcf-protection=none -fno-lto
            -fno-sanitize=object-size "SHELL:-include tarn/managed.h")
    else()
        target_compile_options(${target} PRIVATE
            "$<$<COMPILE_LANGUAGE:C>:-fsplit-stack;-fcf-protection=none>"
            "$<$<COMPILE_LANGUAGE:C>:-fno-lto;SHELL:-include tarn/managed.h>"
            $<$<COMPILE_LANGUAGE:C>:-fno-sanitize=object-size>)
    endif()
    get_target_property(type ${target} TYPE)
    if(type STREQUAL "EXECUTABLE")
        target_link_options(${target} PRIVATE -fuse-ld=lld)
    else()
        target_link_options(${target} PUBLIC -fuse-ld=lld)
    endif()
    if(type STREQUAL "MODULE_LIBRARY")
        # Else the driver takes __morestack from libgcc.
        target_link_libraries(${target} PRIVATE tarn::module)
    endif()
endfunction()
