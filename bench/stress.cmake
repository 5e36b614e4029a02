# tarn-stress: in every preset, unlike the benchmarks, since it is a test.

add_executable(tarn-stress stress_main.c stress_modes.c stress_parent.c
    stress_child.c stress_native.c)
# What runs on goroutines.
add_library(stress_managed OBJECT stress_shape.c stress_hold.c stress_behave.c
    stress_stacks.c stress_graph.c stress_roots.c)
foreach(target tarn-stress stress_managed)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_link_libraries(${target} PRIVATE tarn_flags)
endforeach()
set(stress_fibers FALSE)
if(TARN_SANITIZE MATCHES "^(address|thread)$")
    set(stress_fibers TRUE)
else()
    tarn_managed_sources(stress_managed)
endif()
target_link_libraries(tarn-stress PRIVATE stress_managed tarn_internal m)

if(NOT TARN_TESTS)
    return()
endif()

set(stress_timeout 120)
if(TARN_SANITIZE)
    set(stress_timeout 600)
endif()

# stress_test(<name> <command>...)
function(stress_test name)
    add_test(NAME stress_${name} COMMAND ${ARGN})
    set_tests_properties(stress_${name} PROPERTIES
        LABELS stress TIMEOUT ${stress_timeout} ENVIRONMENT
        "ASAN_OPTIONS=detect_stack_use_after_return=0;TSAN_OPTIONS=halt_on_error=1:history_size=4:second_deadlock_stack=1;UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1")
endfunction()

# One short run for each mode that this runtime has, and some of all behaviours
# with none, with all, with random ones.
file(READ ${PROJECT_SOURCE_DIR}/include/tarn/options.h options)
foreach(mode stackmove gcstress checkmark delays droppreempt stackpoison
        stackshrink preemptat clobberfree stackescape barriercheck)
    if(options MATCHES "X\\(${mode},")
        stress_test(${mode} tarn-stress --modes ${mode} --seed 1 --procs 2
            --seconds 2)
    endif()
endforeach()
stress_test(none tarn-stress --modes none --seed 1 --round 1 --seconds 2)
stress_test(one_p tarn-stress --modes none --seed 1 --procs 1 --seconds 2)
stress_test(many_ps tarn-stress --modes none --seed 1 --procs 16 --seconds 2)
# Thousands that want to run at once: the collector's driver comes to its turn.
stress_test(many_goroutines tarn-stress --modes none --seed 1 --procs 2
    --goroutines 3000 --round 1 --seconds 1 --patience 60)
stress_test(all tarn-stress --modes all --seed 1 --seconds 2)
stress_test(random tarn-stress --round 1 --seconds 4
    --json ${CMAKE_CURRENT_BINARY_DIR}/stress.json)

# A scan that leaves something out is noticed, in each way in which it can be
# broken; and so is a process that ends otherwise.
function(stress_break name how)
    stress_test(break_${name}
        bash ${CMAKE_CURRENT_SOURCE_DIR}/stress_break.sh
        $<TARGET_FILE:tarn-stress> ${name} ${how} ${ARGN})
endfunction()
set(breakages page interior pastend native operand alloca barrier flush bulk
    stacks timers barriered cards)
if(NOT stress_fibers)
    list(APPEND breakages rbx xsave general redzone move)
endif()
foreach(name IN LISTS breakages)
    stress_break(${name} lost --modes none)
endforeach()
# Where the runtime looks for itself it is the first to notice.
foreach(name page operand barrier)
    stress_test(break_${name}_checkmark
        bash ${CMAKE_CURRENT_SOURCE_DIR}/stress_break.sh
        $<TARGET_FILE:tarn-stress> ${name} lost --modes checkmark)
endforeach()
foreach(name barrier bulk)
    stress_test(break_${name}_barriercheck
        bash ${CMAKE_CURRENT_SOURCE_DIR}/stress_break.sh
        $<TARGET_FILE:tarn-stress> ${name} lost --modes barriercheck)
endforeach()
stress_break(crash "signal|exit status" --modes none --round 1)
stress_break(kill "signal 9" --modes none --round 1)
stress_break(hang "hung" --modes none --round 1 --patience 3)

# stress_bad(<name> <what is said> <argument>...)
function(stress_bad name message)
    stress_test(bad_${name} tarn-stress ${ARGN})
    set_tests_properties(stress_bad_${name} PROPERTIES
        PASS_REGULAR_EXPRESSION "${message}")
endfunction()
stress_bad(option "--nonsense: unknown option" --nonsense 1)
stress_bad(value "--seconds: unknown option, or it needs a value" --seconds)
stress_bad(seconds "--seconds 0: malformed or out of range" --seconds 0)
stress_bad(procs "--procs 2x: malformed or out of range" --procs 2x)
stress_bad(mode "--modes nonsense: no such mode" --modes checkmark,nonsense)
stress_bad(only "--only nonsense: no such behaviour" --only nonsense)
stress_bad(break "--break nonsense: no such breakage" --break nonsense)
stress_test(help tarn-stress --help)
stress_test(break_help tarn-stress --break help)
