"""Measuring: rates and intervals, records of them, checks, and the study's experiments.

`rates.evaluate` is the heart; `defences` says what is attacked, `attacks_by_name` by what, and
`measure_attack` brings the two together. Nothing here draws, prints tables or serves.
"""
