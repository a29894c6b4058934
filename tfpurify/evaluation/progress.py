"""How far a long job is, and how long the rest may take."""

import time

from absl import logging


class Progress:
    """Says how far the work is and how long the rest may take.

    Args:
        total: The whole work in rough seconds.
        interval: Seconds between two lines.
    """

    def __init__(self, total, interval=10.0):
        self.total, self.done, self.interval = total, 0.0, interval
        self.started = self.said = time.monotonic()

    def say(self, what):
        """Logs what is going on and the remaining time."""
        self.said = time.monotonic()
        # The rough seconds count as if ten of them had been measured.
        pace = (self.said - self.started + 10.0) / (self.done + 10.0)
        left = max(0.0, self.total - self.done) * pace
        logging.info("%s; about %.0f s left", what, left)

    def advance(self, work, what):
        """Adds work that is done, and says so now and then."""
        self.done += work
        if time.monotonic() - self.said >= self.interval:
            self.say(what)
