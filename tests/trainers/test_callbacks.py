"""What the callbacks keep over a pause."""

import csv
import itertools

import keras
import numpy as np

from trainers import _callbacks


class Counting(keras.Model):
    """Its weight counts epochs; its validation metric is scripted."""

    def __init__(self, values):
        super().__init__()
        self.count = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.values = values
        self.built = True

    def epoch(self, callback, epoch):
        self.count.assign(epoch + 1)
        callback.set_model(self)
        callback.on_epoch_end(epoch, {"loss": 0.0, "val_rate": self.values[epoch]})


def test_the_best_epoch_comes_back_over_a_pause(tmp_path):
    model = Counting([0.2, 0.9, 0.5, 0.8])
    for epoch in (0, 1, 2):
        model.epoch(_callbacks.KeepBest(tmp_path, "rate"), epoch)  # a new process each
    keep_best = _callbacks.KeepBest(tmp_path, "rate")
    model.epoch(keep_best, 3)
    logs = keep_best.restore(model, {"val_rate": 0.8})
    assert float(model.count) == 2.0
    assert logs == {"loss": 0.0, "val_rate": 0.9}


def test_without_a_metric_the_last_epoch_stays(tmp_path):
    model = Counting([0.9, 0.1])
    keep_best = _callbacks.KeepBest(tmp_path, None)
    for epoch in (0, 1):
        model.epoch(keep_best, epoch)
    assert keep_best.restore(model, {"val_rate": 0.1}) == {"val_rate": 0.1}
    assert float(model.count) == 2.0 and not list(tmp_path.iterdir())


def test_processor_time_is_written_for_each_epoch(tmp_path, monkeypatch):
    clock = itertools.count(0.0, 1.5)
    monkeypatch.setattr(_callbacks.time, "process_time", lambda: next(clock))
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    log = keras.callbacks.CSVLogger(str(tmp_path / "history.csv"))
    x = np.ones((8, 4), np.float32)
    model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[_callbacks.CpuSeconds(), log])
    with open(tmp_path / "history.csv", newline="", encoding="utf-8") as file:
        seconds = [float(row["cpu_seconds"]) for row in csv.DictReader(file)]
    assert seconds == [1.5, 1.5]
