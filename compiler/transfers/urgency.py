# SPDX-License-Identifier: Apache-2.0
"""How urgent a transfer is: of several that are ready, the one with the lowest number goes first.

Counted in steps of the layer: what step n needs has about n, and less by how long before the step it should be there.
"""

from __future__ import annotations

__all__ = ["INPUT", "PROGRAM", "RECORDS", "RESULT", "SAME_KIND", "TABLE", "WEIGHTS"]

PROGRAM = -10.0
"""Before everything: an engine without a program does nothing, and all engines start at once."""
TABLE = -5.0
"""Behind the programs, and ahead of all inputs: the first input's signal says that the table is there too."""
RECORDS = -2.0
"""Ahead of the first weights, without which they are of no use."""
WEIGHTS = -1.5
"""Added to a step's number: half a step before its input, as more engines wait for them: they are broadcast."""
INPUT = -1.0
"""Added to a step's number: while the step before computes."""
RESULT = 0.9
"""Added to a step's number: when the step is done, but before what the second next step needs; a result that stays
where it is holds up the step that uses its buffer again."""
SAME_KIND = 0.5
"""Taken off for a transfer of the kind that went before: turning from loads to stores costs time, about half a step's
worth of being late."""
