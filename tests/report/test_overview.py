"""The overview: what was measured here beside what is shipped."""

import pytest

from tfpurify.report import overview

BLIND = {
    "dataset": "mnist",
    "split": "test",
    "classifier": "cnn",
    "purifier": "puvae",
    "threat_model": "blind",
    "attack": "advgan",
    "epsilon": 0.2,
    "n": 40,
    "purified_clean_accuracy": 0.95,
    "attack_success_rate": 0.125,
    "attack_success_rate_low": 0.1,
    "attack_success_rate_high": 0.2,
}
SHIPPED = {**BLIND, "n": 10000, "attack_success_rate": 0.128, "purified_clean_accuracy": 0.98}


@pytest.mark.parametrize(
    ("here", "shipped", "cells"),
    [
        ([BLIND], [SHIPPED], ("95.0 (98.0)", "12.5 (12.8)", "40")),
        ([], [SHIPPED], ("- (98.0)", "- (12.8)", "-")),
        ([BLIND], [], ("95.0", "12.5", "40")),
    ],
)
def test_the_shipped_figure_stands_in_brackets(here, shipped, cells):
    row = overview.overview_row("mnist", "puvae", here, shipped)
    assert row[:2] == ("MNIST", "PuVAE")
    assert (row[2], row[3], row[-1]) == cells


def test_a_line_has_its_columns_below_those_of_the_header():
    row = overview.overview_row("mnist", "puvae", [BLIND], [SHIPPED])
    header, text = overview.line(overview.HEADER), overview.line(row)
    assert text.index("12.5") == header.index("blind AdvGAN")


def test_the_table_marks_what_is_shipped():
    worst = {**BLIND, "attack": "worst_case"}
    full = [SHIPPED, {**worst, "n": 200, "attack_success_rate": 0.69}]
    both = overview.overview_table([BLIND, worst], (), full).rows[0]
    assert both[2].startswith("95.0 [") and both[2].endswith(", shipped 98.0")
    assert both[3].startswith("12.5 [") and both[3].endswith(", shipped 69.0")
    assert both[4:] == ("-", "-")
    (row,) = overview.overview_table([BLIND], (), full).rows
    assert row[3].startswith("69.0 [") and row[3].endswith("(n=200) shipped")


def test_a_single_attack_that_did_better_is_the_worst_case():
    worst = {**BLIND, "attack": "worst_case", "attack_success_rate": 0.05}
    (row,) = overview.overview_table([BLIND, worst], ()).rows
    assert row[3].startswith("12.5 [")
