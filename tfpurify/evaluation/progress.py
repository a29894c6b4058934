"""How far a long job is, and how long the rest may take."""

import time

from absl import logging


class Progress:
    """Says which experiment is measured, and how long the rest may take by what was measured.

    Args:
        total: Number of experiments.
    """

    def __init__(self, total):
        self.total, self.begun = total, 0
        self.started = time.monotonic()

    def begin(self, what):
        """Logs the next experiment, and the time left if the others take as long as those done."""
        done, self.begun = self.begun, self.begun + 1
        left = ""
        if done:
            seconds = (time.monotonic() - self.started) / done * (self.total - done)
            left = f", about {duration(seconds)} left"
        logging.info("experiment %d of %d%s: %s", self.begun, self.total, left, what)


def duration(seconds):
    """Returns a time in words."""
    return f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
