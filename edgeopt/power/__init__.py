# SPDX-FileCopyrightText: edgeopt contributors
# SPDX-License-Identifier: Apache-2.0
"""Power: what a board's own sensors and external meters tell, and the energy that it adds up to.

A sensor is one module of ``edgeopt.power.sensors``: which files of the board it reads, of what
unit, how exact. A meter is one of ``edgeopt.power.meters``, and is read from here. What they tell
is kept raw; ``edgeopt.power.energy`` computes from it.
"""
