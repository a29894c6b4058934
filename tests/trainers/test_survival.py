"""Trainings that are killed, raced, starved or fed NaN; `benchmarks.faults` does so at length."""

import os

import numpy as np
import pytest
import tensorflow as tf
from tiny_runs import TINY, make_fn_args

from benchmarks import _trainings, faults
from tfpurify.data import loading
from trainers import classifier


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happened to."""
    folder = tmp_path_factory.mktemp("whole")
    _trainings.train(folder).check_returncode()
    return folder


def test_a_killed_run_ends_as_if_it_had_not_been(whole, tmp_path):
    ended = _trainings.train_and_kill(tmp_path, epoch=4)
    assert ended is not None and ended >= 3
    _trainings.train(tmp_path).check_returncode()
    assert _trainings.summary(tmp_path)["resumed_after_epoch"] >= ended
    pairs = zip(_trainings.weights(tmp_path), _trainings.weights(whole), strict=True)
    for mine, other in pairs:
        np.testing.assert_array_equal(mine, other)


def test_the_second_of_two_processes_refuses(tmp_path):
    first, second = _trainings.race(tmp_path)
    lines, is_crash = _trainings.errors(second)
    assert first == 0 and second.returncode == 1 and not is_crash
    assert len(lines) == 1 and "One process at a time may write here" in lines[0]
    assert not _trainings.half_written(tmp_path)


@pytest.mark.parametrize(("megabytes", "mode"), [(5, "rw"), (1, "ro")])
def test_a_disk_that_takes_no_more_is_one_clear_error(tmp_path, megabytes, mode):
    with faults._mounted(tmp_path / "disk", megabytes, mode) as disk:
        if disk is None:
            pytest.skip("a file system of a given size needs root")
        process = _trainings.train(disk)
        lines, is_crash = _trainings.errors(process)
        assert process.returncode == 1 and len(lines) == 1 and not is_crash
        assert ("MB free" if mode == "rw" else "must be a writable folder") in lines[0]
        assert not _trainings.half_written(disk)
        assert any(disk.iterdir()) == (mode == "rw")


def test_nan_in_the_data_keeps_the_last_good_weights(tmp_path, monkeypatch):
    config = {**TINY, "train_steps": None, "epochs": 1, "steps_per_epoch": 2, "classifier": "b"}
    config |= {"output_dir": str(tmp_path)}
    classifier.run_fn(make_fn_args(config))
    folder = tmp_path / "runs" / "b_mnist"
    before = {path: os.stat(path).st_mtime_ns for path in folder.rglob("*.weights.h5")}
    right = loading.training_batches

    def poisoned(*args, **kwargs):
        batches, steps = right(*args, **kwargs)
        values = tf.data.Dataset.from_tensor_slices([0.0, np.nan])  # the second step's are NaN
        batches = tf.data.Dataset.zip(values, batches)
        return batches.map(lambda value, batch: (batch[0] + value, batch[1])), steps

    monkeypatch.setattr(loading, "training_batches", poisoned)
    message = "^`images` must be finite. Received: NaN or infinity at step 2 of epoch 2$"
    with pytest.raises(FloatingPointError, match=message):
        classifier.run_fn(make_fn_args({**config, "epochs": 2}))
    assert before
    assert {path: os.stat(path).st_mtime_ns for path in folder.rglob("*.weights.h5")} == before
    monkeypatch.undo()
    classifier.run_fn(make_fn_args({**config, "epochs": 2}))
    assert _trainings.summary(tmp_path, "b_mnist")["resumed_after_epoch"] == 1
