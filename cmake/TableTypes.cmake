# SPDX-License-Identifier: Apache-2.0
# Table types that need a library: ON where it is there, OFF or ON by -DPOSTRIDER_BDB=OFF and so on; ON without the library is an error.
# Each gives the macro PR_HAVE_x, 0 or 1, to all code.
#
# Without Berkeley DB, hash: and btree: are LMDB files, or else CDB files.
set(POSTRIDER_TABLE_LIBRARIES "")
function(postrider_table_type name library header what)
  find_library(${name}_LIBRARY ${library})
  find_path(${name}_INCLUDE ${header})
  if(${name}_LIBRARY AND ${name}_INCLUDE)
    set(there ON)
  else()
    set(there OFF)
  endif()
  option(POSTRIDER_${name} "${what}" ${there})
  if(POSTRIDER_${name} AND NOT there)
    message(FATAL_ERROR "POSTRIDER_${name}: the library ${library} or its header ${header} is missing")
  endif()
  if(POSTRIDER_${name})
    list(APPEND POSTRIDER_TABLE_LIBRARIES ${${name}_LIBRARY})
    set(POSTRIDER_TABLE_LIBRARIES ${POSTRIDER_TABLE_LIBRARIES} PARENT_SCOPE)
    add_compile_definitions(PR_HAVE_${name}=1)
  else()
    add_compile_definitions(PR_HAVE_${name}=0)
  endif()
endfunction()

postrider_table_type(BDB db db.h "Berkeley DB: hash and btree tables that are Postfix's")
postrider_table_type(LMDB lmdb lmdb.h "lmdb tables")
postrider_table_type(CDB cdb cdb.h "cdb tables")
if(NOT POSTRIDER_BDB AND NOT POSTRIDER_LMDB AND NOT POSTRIDER_CDB)
  message(FATAL_ERROR "hash: tables need one of Berkeley DB, LMDB and CDB")
endif()
