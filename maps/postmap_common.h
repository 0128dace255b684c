/* SPDX-License-Identifier: Apache-2.0 */
/* postmap_common.h - what postmap(1) and postalias(1) are: one program with two formats. */
#ifndef PR_MAPS_POSTMAP_COMMON_H
#define PR_MAPS_POSTMAP_COMMON_H

#include "maps/map_build.h"

NODISCARD int postmap_run(int argc, char **argv, enum map_build_format format);

#endif
