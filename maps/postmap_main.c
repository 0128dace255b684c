/* SPDX-License-Identifier: Apache-2.0 */
#include "maps/postmap_common.h"

int main(int argc, char **argv)
{
    return postmap_run(argc, argv, MAP_BUILD_POSTMAP);
}
