# SPDX-License-Identifier: Apache-2.0
# Warnings, hardening, sanitizers: the same for every target.
add_compile_definitions(_GNU_SOURCE)
add_compile_options(
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings
  -Wundef -Wvla -Wformat=2 -fno-common -fno-omit-frame-pointer
  -fstack-protector-strong -fstack-clash-protection)
add_link_options(-Wl,-z,relro -Wl,-z,now)

if(CMAKE_C_COMPILER_ID MATCHES Clang)
  add_compile_options(-Wthread-safety)
endif()
if(POSTRIDER_WERROR)
  add_compile_options(-Werror)
endif()
if(POSTRIDER_SANITIZE)
  add_compile_options(-fsanitize=${POSTRIDER_SANITIZE} -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${POSTRIDER_SANITIZE})
elseif(CMAKE_BUILD_TYPE MATCHES "Rel")
  add_compile_definitions(_FORTIFY_SOURCE=2)
endif()
include_directories(${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/lib)
