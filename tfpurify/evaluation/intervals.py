"""How far a proportion may be off, without TensorFlow."""

import math
import statistics


def wilson_interval(successes, n, confidence=0.95):
    """Returns the Wilson score interval of a proportion.

    (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n), with p = successes / n.

    Args:
        successes: Count of successes, in [0, n].
        n: Count of trials, >= 1.
        confidence: Two-sided coverage, in (0, 1).

    Returns:
        A pair of floats, `(low, high)`, in [0, 1].

    Raises:
        ValueError: If there are no trials, or a count or the confidence is out of its range.

    Source: Wilson (1927), "Probable inference, the law of succession, and statistical inference".
    """
    if n < 1:
        raise ValueError(f"`n` must be >= 1. Received: n={n}")
    if not 0 <= successes <= n:
        raise ValueError(f"`successes` must be in [0, n]. Received: successes={successes}, n={n}")
    if not 0 < confidence < 1:
        raise ValueError(f"`confidence` must be in (0, 1). Received: confidence={confidence}")
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / n
    centre = rate + z * z / (2 * n)
    half_width = z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # The bound on the side of a sure outcome is exactly that outcome; rounding would miss it.
    low = 0.0 if successes == 0 else (centre - half_width) / scale
    high = 1.0 if successes == n else (centre + half_width) / scale
    return low, high


def difference_interval(rate, n, other_rate, other_n, confidence=0.95):
    """Returns an interval of the difference of two independent proportions, `rate - other_rate`.

    Args:
        rate: The first proportion, in [0, 1].
        n: Its count of trials.
        other_rate: The second.
        other_n: Its count of trials.
        confidence: Two-sided coverage, in (0, 1).

    Returns:
        A pair of floats, `(low, high)`, in [-1, 1].

    Source: Newcombe (1998), "Interval estimation for the difference between independent
    proportions", method 10: from the two Wilson intervals.
    """
    low, high = wilson_interval(round(rate * n), n, confidence)
    other_low, other_high = wilson_interval(round(other_rate * other_n), other_n, confidence)
    difference = rate - other_rate
    return (
        difference - math.hypot(rate - low, other_high - other_rate),
        difference + math.hypot(high - rate, other_rate - other_low),
    )
