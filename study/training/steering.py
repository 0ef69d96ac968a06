"""Which beats are predicted before the last epoch, when scores only steer a search.

Nine beats of ten are normal, and neighbours look alike. So every fifth normal beat of a record is
predicted and stands for those around it; all S, V and F beats are predicted. A score is then that
of all beats but for a little noise (`benchmarks/README.md`), at a quarter of the cost. The last
epoch predicts every beat.

Shapes: N beats.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from study.keys import CLASSES

STANDS_FOR = 5
"""Normal beats that one of them stands for."""


def stand_ins(label: NDArray[np.int64], record: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which beat's prediction stands for each beat, [N]; that of one predicted is its own.

    Args:
        label: [N] index into `CLASSES`.
        record: [N] record of each beat, in record and time order.
    """
    stands = np.arange(len(label))
    normal = label == CLASSES.index("N")
    for name in np.unique(record):
        mine = np.flatnonzero(normal & (record == name))
        place = np.arange(len(mine))
        middle = place // STANDS_FOR * STANDS_FOR + STANDS_FOR // 2
        stands[mine] = mine[np.minimum(middle, len(mine) - 1)]
    return stands
