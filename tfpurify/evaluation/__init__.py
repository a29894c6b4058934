"""Measuring: rates and intervals, records of them, checks, and the study's experiments.

`rates.evaluate` is the heart; `defences` names what is attacked and by what. Nothing here draws,
prints tables or serves.
"""
