"""What the callbacks keep over a pause."""

import csv
import itertools

import keras
import numpy as np

from tfpurify.training import callbacks


def test_processor_time_is_written_for_each_epoch(tmp_path, monkeypatch):
    clock = itertools.count(0.0, 1.5)
    monkeypatch.setattr(callbacks.time, "process_time", lambda: next(clock))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    log = keras.callbacks.CSVLogger(str(tmp_path / "history.csv"))
    x = np.ones((8, 4), np.float32)
    model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[callbacks.CpuSeconds(), log])
    with open(tmp_path / "history.csv", newline="", encoding="utf-8") as file:
        seconds = [float(row["cpu_seconds"]) for row in csv.DictReader(file)]
    assert seconds == [1.5, 1.5]
