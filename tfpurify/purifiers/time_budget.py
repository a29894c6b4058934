"""How much projection fits into the milliseconds that one image may take, measured here."""

import math
import time

import numpy as np
from absl import logging

# Steps and restarts among which a time budget chooses, by rising effort.
_EFFORTS = ((2, 1), (5, 1), (10, 2), (15, 2), (25, 2), (40, 4), (60, 10), (100, 10), (200, 10))
_SHARE = 0.75  # of the time budget that the projection may take in the median
_TIMED_CALLS = 9


def require_time_budget(time_budget_ms, projector, num_steps, num_restarts):
    """Refuses a time budget that says nothing, or beside what it would choose; None passes.

    Raises:
        ValueError: If it is not > 0 and finite, the projector is not `fast`, or the steps or the
            restarts are given.
    """
    if time_budget_ms is None:
        return
    if projector != "fast":
        raise ValueError(
            "`time_budget_ms` needs `projector='fast'`: the reference's steps and restarts are "
            f"the paper's. Received: projector={projector!r}"
        )
    if not 0 < time_budget_ms < math.inf:
        raise ValueError(
            f"`time_budget_ms` must be > 0 and finite. Received: time_budget_ms={time_budget_ms}"
        )
    if (num_steps, num_restarts) != (None, None):
        raise ValueError(
            "`time_budget_ms` chooses `num_steps` and `num_restarts`, so it excludes them. "
            f"Received: num_steps={num_steps}, num_restarts={num_restarts}"
        )


def choose_effort(time_budget_ms, set_effort, project):
    """Sets the greatest effort whose median time for one image fits the budget.

    Args:
        time_budget_ms: In milliseconds.
        set_effort: Function that is called with a number of steps and one of restarts.
        project: Function that projects one image with what was set last.

    Raises:
        ValueError: If not even the least effort fits.
    """
    chosen = None
    for effort in _EFFORTS:
        set_effort(*effort)
        project()  # traces
        times = []
        for _ in range(_TIMED_CALLS):
            started = time.perf_counter()
            project()
            times.append(1e3 * (time.perf_counter() - started))
        if np.median(times) > _SHARE * time_budget_ms:
            break
        chosen, milliseconds = effort, np.median(times)
    if chosen is None:
        raise ValueError(
            "`time_budget_ms` must leave room for two steps, which take "
            f"{np.median(times):.1f} ms here. Received: time_budget_ms={time_budget_ms}"
        )
    set_effort(*chosen)
    message = "DefenseGAN, time_budget_ms=%g: num_steps=%d, num_restarts=%d, %.1f ms for one image"
    logging.info(message, time_budget_ms, *chosen, milliseconds)
