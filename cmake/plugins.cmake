# SPDX-License-Identifier: BSD-3-Clause
#
# What drags in a large library is a shared object of its own, opened when it is first used. It is
# built where that library's headers are installed; nothing else is linked with it or needs it.

set(NACRE_PLUGIN_DIR "${CMAKE_INSTALL_LIBDIR}/nacre")
file(RELATIVE_PATH plugins_from_program "/prefix/${CMAKE_INSTALL_BINDIR}"
     "/prefix/${NACRE_PLUGIN_DIR}")
target_compile_definitions(nacre_world
                           PRIVATE NACRE_PLUGINS_FROM_PROGRAM="${plugins_from_program}")

find_path(NACRE_RBD_INCLUDE rbd/librbd.h)
find_library(NACRE_RBD_LIBRARY rbd)
find_library(NACRE_RADOS_LIBRARY rados)
if(NACRE_RBD_INCLUDE AND NACRE_RBD_LIBRARY AND NACRE_RADOS_LIBRARY)
    add_library(nacre-rbd MODULE plugins/rbd/nacre_rbd.cpp)
    target_include_directories(nacre-rbd PRIVATE "${PROJECT_SOURCE_DIR}" "${NACRE_RBD_INCLUDE}")
    target_link_libraries(nacre-rbd PRIVATE "${NACRE_RBD_LIBRARY}" "${NACRE_RADOS_LIBRARY}")
    set_target_properties(nacre-rbd PROPERTIES PREFIX "" CXX_VISIBILITY_PRESET hidden
                                               LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}")
    install(TARGETS nacre-rbd LIBRARY DESTINATION "${NACRE_PLUGIN_DIR}")
    if(TARGET nacre_module_rbd_tests)
        add_dependencies(nacre_module_rbd_tests nacre-rbd)
    endif()
else()
    message(STATUS "nacre-rbd.so is not built: librbd-dev is not installed")
endif()
