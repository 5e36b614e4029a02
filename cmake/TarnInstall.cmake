# Installs headers, both libraries, the CMake package and the pkg-config file.
# All of it finds itself relative to where it lies: a staged tree can be moved.
include(CMakePackageConfigHelpers)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/tarn)
install(TARGETS tarn tarn_shared tarn_module EXPORT tarn
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY include/tarn DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILES_MATCHING PATTERN "*.h")
# For gdb; and beside the library under the name by which gdb loads it by itself,
# where it is told to trust the folder.
install(FILES gc/tarn-gdb.py DESTINATION ${CMAKE_INSTALL_DATADIR}/tarn)
install(FILES gc/tarn-gdb.py DESTINATION ${CMAKE_INSTALL_LIBDIR}
    RENAME libtarn.so.${PROJECT_VERSION}-gdb.py)
install(EXPORT tarn NAMESPACE tarn:: FILE tarn-targets.cmake
    DESTINATION ${package_dir})
write_basic_package_version_file(tarn-config-version.cmake
    COMPATIBILITY SameMinorVersion)
configure_package_config_file(cmake/tarn-config.cmake.in tarn-config.cmake
    INSTALL_DESTINATION ${package_dir})
install(FILES ${PROJECT_BINARY_DIR}/tarn-config.cmake
    ${PROJECT_BINARY_DIR}/tarn-config-version.cmake cmake/TarnManaged.cmake
    DESTINATION ${package_dir})

cmake_path(RELATIVE_PATH CMAKE_INSTALL_FULL_INCLUDEDIR
    BASE_DIRECTORY ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig
    OUTPUT_VARIABLE pc_includedir)
list(TRANSFORM tarn_dependencies PREPEND "-l" OUTPUT_VARIABLE pc_libs)
list(JOIN pc_libs " " pc_libs)
configure_file(cmake/tarn.pc.in tarn.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/tarn.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
