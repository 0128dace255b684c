# SPDX-License-Identifier: Apache-2.0
"""What ends the run with one line for whoever started it."""


class Stop(Exception):
    pass
