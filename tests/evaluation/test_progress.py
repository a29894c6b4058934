"""Progress in words, from measured time."""

from absl import logging

from tfpurify.evaluation import progress


def test_the_time_left_is_what_the_others_took(monkeypatch):
    clock, said = iter([0.0, 60.0, 90.0]), []
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(logging, "info", lambda text, *words: said.append(text % words))
    counting = progress.Progress(4)
    for what in ("one", "two", "three"):
        counting.begin(what)
    assert said == [
        "experiment 1 of 4: one",
        "experiment 2 of 4, about 3 min left: two",
        "experiment 3 of 4, about 2 min left: three",
    ]
