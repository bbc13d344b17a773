# SPDX-License-Identifier: BSD-3-Clause
#
# `cmake --install`: the program, every public header, one library libnacre.a with all the rooms, and
# the files by which CMake (find_package(nacre), target nacre::nacre) and pkg-config find it.

include(CMakePackageConfigHelpers)

install(DIRECTORY include/nacre DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING
        PATTERN "*.hpp" PATTERN "*.def")
if(TARGET nacre)
    install(TARGETS nacre RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
    # The program prints its own completion and manual, so they are made when they are installed.
    # nacre_document(FILE FOLDER ARGUMENTS...)
    function(nacre_document file folder)
        set(made "${PROJECT_BINARY_DIR}/documents/${file}")
        list(JOIN ARGN " " arguments)
        install(CODE "file(MAKE_DIRECTORY \"${PROJECT_BINARY_DIR}/documents\")
execute_process(COMMAND \"$<TARGET_FILE:nacre>\" ${arguments} OUTPUT_FILE \"${made}\"
                COMMAND_ERROR_IS_FATAL ANY)")
        install(FILES "${made}" DESTINATION "${folder}")
    endfunction()
    nacre_document(nacre "${CMAKE_INSTALL_DATADIR}/bash-completion/completions" completion bash)
    nacre_document(nacre.1 "${CMAKE_INSTALL_MANDIR}/man1" man nacre)
    nacre_document(nacre-rpc.7 "${CMAKE_INSTALL_MANDIR}/man7" man nacre-rpc)
endif()

set(rooms ${NACRE_ROOMS})
if(rooms)
    set(objects "")
    foreach(room IN LISTS rooms)
        list(APPEND objects "$<TARGET_OBJECTS:${room}>")
    endforeach()
    add_library(libnacre STATIC ${objects})
    set_target_properties(libnacre PROPERTIES OUTPUT_NAME nacre LINKER_LANGUAGE CXX)
    install(TARGETS libnacre ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/nacre")
configure_package_config_file(cmake/nacre-config.cmake.in nacre-config.cmake
                              INSTALL_DESTINATION "${package_dir}"
                              PATH_VARS CMAKE_INSTALL_INCLUDEDIR CMAKE_INSTALL_LIBDIR)
write_basic_package_version_file(nacre-config-version.cmake COMPATIBILITY SameMinorVersion)
# The prefix is told from where the file lies, so that an installed tree can be moved.
file(RELATIVE_PATH nacre_pc_to_prefix "/prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/prefix")
configure_file(cmake/nacre.pc.in nacre.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/nacre-config.cmake"
              "${PROJECT_BINARY_DIR}/nacre-config-version.cmake" DESTINATION "${package_dir}")
install(FILES "${PROJECT_BINARY_DIR}/nacre.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
