# tarn-stress: in every preset, unlike the benchmarks, since it is a test.

add_executable(tarn-stress stress_main.c stress_modes.c stress_parent.c
    stress_child.c stress_native.c)
# What runs on goroutines.
add_library(stress_managed OBJECT stress_shape.c stress_hold.c stress_behave.c
    stress_stacks.c stress_graph.c)
foreach(target tarn-stress stress_managed)
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_link_libraries(${target} PRIVATE tarn_flags)
endforeach()
if(NOT TARN_SANITIZE MATCHES "^(address|thread)$")
    tarn_managed_sources(stress_managed)
endif()
target_link_libraries(tarn-stress PRIVATE stress_managed tarn_internal m)
