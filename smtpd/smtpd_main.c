/* SPDX-License-Identifier: Apache-2.0 */
#include "master/worker.h"

extern const struct worker_service smtpd_service;

int main(int argc, char **argv)
{
    return worker_main(argc, argv, &smtpd_service);
}
