"""A time budget that is shared among stages, and what one leaves or overdraws goes to the rest."""

import contextlib
import time

from tfpurify.evaluation.progress import duration


class TimeShares:
    """Divides so many seconds.

    Args:
        seconds: All that there is.
        weights: Weight of each kind of stage.
    """

    def __init__(self, seconds, weights):
        self.deadline = time.monotonic() + seconds
        self.weights = weights
        self.kinds = []

    def plan(self, kinds):
        """Says which stages are to come, by kind."""
        self.kinds = list(kinds)

    @contextlib.contextmanager
    def stage(self, kind):
        """Gives the seconds that a stage of this kind may take, and counts it as done."""
        whole = sum(self.weights[one] for one in self.kinds)
        yield max(0.0, self.left()) * self.weights[kind] / whole
        self.kinds.remove(kind)

    def left(self):
        """Returns the seconds until the deadline; negative if it is over."""
        return self.deadline - time.monotonic()

    def left_in_words(self):
        """Returns the time left as it is printed."""
        return duration(max(0.0, self.left()))


def until(batches, deadline):
    """Yields batches as long as the next is likely to be done by the deadline; one at least.

    Args:
        batches: Iterable.
        deadline: Of `time.monotonic()`.
    """
    before = None
    for index, batch in enumerate(batches):
        now = time.monotonic()
        # The first batch takes longer than the others: graphs are made in it.
        if index and now + (now - before) / (2 if index == 1 else 1) > deadline:
            return
        before = now
        yield batch
