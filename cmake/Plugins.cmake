# SPDX-License-Identifier: Apache-2.0
# Table types as modules: maps/plugins/map_NAME.c becomes postrider-NAME.so beside the daemons, where its library is there
# (or -DPOSTRIDER_PLUGIN_NAME=OFF, ON). A module is linked with its library alone; what it needs of our code it finds in the program
# that loads it, which therefore exports its symbols.
set(POSTRIDER_PLUGINS "")
function(postrider_plugin name)
  string(TOUPPER ${name} upper)
  pkg_check_modules(PLUGIN_${upper} QUIET IMPORTED_TARGET ${ARGN})
  option(POSTRIDER_PLUGIN_${upper} "${name} tables (${ARGN})" ${PLUGIN_${upper}_FOUND})
  if(NOT POSTRIDER_PLUGIN_${upper})
    return()
  endif()
  if(NOT PLUGIN_${upper}_FOUND)
    message(FATAL_ERROR "POSTRIDER_PLUGIN_${upper}: ${ARGN} is missing")
  endif()
  set(POSTRIDER_PLUGINS ${POSTRIDER_PLUGINS} ${name} PARENT_SCOPE)
endfunction()

postrider_plugin(ldap   ldap libsasl2)
postrider_plugin(mysql  libmariadb)
postrider_plugin(pgsql  libpq)
postrider_plugin(sqlite sqlite3)

function(postrider_plugins)
  target_link_libraries(pr_maps PUBLIC ${CMAKE_DL_LIBS})
  target_link_options(pr_maps INTERFACE -rdynamic)
  foreach(name ${POSTRIDER_PLUGINS})
    string(TOUPPER ${name} upper)
    add_library(plugin_${name} MODULE ${CMAKE_SOURCE_DIR}/maps/plugins/map_${name}.c)
    if(name STREQUAL ldap)
      target_sources(plugin_ldap PRIVATE ${CMAKE_SOURCE_DIR}/maps/plugins/ldap_connection.c
        ${CMAKE_SOURCE_DIR}/maps/plugins/ldap_entries.c)
    else()
      target_sources(plugin_${name} PRIVATE ${CMAKE_SOURCE_DIR}/maps/plugins/map_sql.c)
    endif()
    target_link_libraries(plugin_${name} PRIVATE PkgConfig::PLUGIN_${upper})
    set_target_properties(plugin_${name} PROPERTIES PREFIX "" OUTPUT_NAME postrider-${name}
      C_VISIBILITY_PRESET default LIBRARY_OUTPUT_DIRECTORY ${POSTRIDER_STAGE}/libexec/postrider)
    install(TARGETS plugin_${name} DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/postrider)
  endforeach()
endfunction()
