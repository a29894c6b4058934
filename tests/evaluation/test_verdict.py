"""What is said of a purifier follows from its figures."""

import pytest

from tfpurify.evaluation.intervals import difference_interval
from tfpurify.evaluation.verdict import judge


def record(threat_model, robust, clean=0.9, purified=None, n=400):
    return {
        "purifier": "none" if purified is None else "puvae",
        "threat_model": threat_model,
        "clean_accuracy": clean,
        "purified_clean_accuracy": purified,
        "robust_accuracy": robust,
        "n": n,
    }


@pytest.mark.parametrize(
    ("blind", "whitebox", "words", "is_worth_it", "is_worse"),
    [
        (0.6, 0.5, "it is worth it where such attacks", True, False),
        (
            0.6,
            0.1,
            "stops nothing of what an attacker who knows it does; it saves 50.0",
            False,
            False,
        ),
        (0.1, 0.1, "do not use it", False, True),
        (0.1, 0.5, "it is worth it", True, False),
        (0.02, 0.01, "do not use it", False, True),
    ],
)
def test_the_advice_follows_from_what_is_left(blind, whitebox, words, is_worth_it, is_worse):
    verdict = judge(
        record("whitebox", 0.1),
        record("blind", blind, purified=0.87),
        record("whitebox", whitebox, purified=0.87),
    )
    assert words in verdict.words
    assert "costs 3.0 points" in verdict.words
    assert (verdict.is_worth_it, verdict.is_worse_than_none) == (is_worth_it, is_worse)


def test_a_small_difference_on_few_images_is_no_gain():
    few = judge(
        record("whitebox", 0.1, n=20),
        record("blind", 0.2, purified=0.9, n=20),
        record("whitebox", 0.2, purified=0.9, n=20),
    )
    assert not few.is_worth_it and "costs no accuracy" in few.words


def test_the_interval_of_a_difference_is_newcombe_s():
    # Newcombe 1998, Table II, (a) 56/70 - 48/80, method 10.
    low, high = difference_interval(56 / 70, 70, 48 / 80, 80)
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
