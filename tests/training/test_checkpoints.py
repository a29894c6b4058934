"""What is kept over a pause, and what becomes of it when a file is damaged."""

import logging
import shutil

import keras
import pytest

from tfpurify.training import checkpoints, run_folder


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
        model.epoch(checkpoints.KeepBest(tmp_path, "rate"), epoch)  # a new process each
    keep_best = checkpoints.KeepBest(tmp_path, "rate")
    model.epoch(keep_best, 3)
    logs = keep_best.restore(model, {"val_rate": 0.8})
    assert float(model.count) == 2.0
    assert logs == {"loss": 0.0, "val_rate": 0.9}


def test_without_a_metric_the_last_epoch_stays(tmp_path):
    model = Counting([0.9, 0.1])
    keep_best = checkpoints.KeepBest(tmp_path, None)
    for epoch in (0, 1):
        model.epoch(keep_best, epoch)
    assert keep_best.restore(model, {"val_rate": 0.1}) == {"val_rate": 0.1}
    assert float(model.count) == 2.0 and not list(tmp_path.iterdir())


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def checkpointed(folder, epochs):
    """Returns the paths of a model's checkpoints, the first epoch's first."""
    model = Counting([0.0] * epochs)
    checkpoint = checkpoints.EpochCheckpoint(folder)
    for epoch in range(epochs):
        model.epoch(checkpoint, epoch)
    return sorted(folder.iterdir())


def test_the_last_two_epochs_are_kept(tmp_path):
    names = [path.name for path in checkpointed(tmp_path, 4)]
    assert [name[: len("epoch-0003-")] for name in names] == ["epoch-0003-", "epoch-0004-"]


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, damage, caplog):
    _, last = checkpointed(tmp_path, 3)
    damage(last)
    model = Counting([0.0] * 3)
    checkpoint = checkpoints.EpochCheckpoint(tmp_path)
    with caplog.at_level(logging.WARNING, logger="absl"):
        assert checkpoint.restore(model) == 2
    assert float(model.count) == 2.0
    assert f"{last.name} is damaged and is not used" in caplog.text
    model.epoch(checkpoint, 2)
    assert last not in tmp_path.iterdir() and len(list(tmp_path.iterdir())) == 2
    assert checkpoints.EpochCheckpoint(tmp_path).restore(model) == 3


def test_a_run_whose_checkpoints_are_all_damaged_does_not_begin_anew(tmp_path):
    for path in checkpointed(tmp_path, 2):
        flip(path)
    with pytest.raises(ValueError, match=r"epoch-0002-\w+.weights.h5, epoch-0001-\w+.*--noresume"):
        checkpoints.EpochCheckpoint(tmp_path).restore(Counting([]))


@pytest.mark.parametrize("kept", ["best-*.weights.h5", "best.json"])
@pytest.mark.parametrize("damage", [cut, flip])
def test_damaged_best_weights_are_refused(tmp_path, kept, damage):
    model = Counting([0.9])
    keep_best = checkpoints.KeepBest(tmp_path, "rate")
    model.epoch(keep_best, 0)
    (path,) = (tmp_path / "checkpoints").glob(kept)
    if kept == "best.json":
        path.write_text(path.read_text()[:-3])
    else:
        damage(path)
    for refuses in (keep_best.on_train_begin, lambda: keep_best.restore(model, {})):
        with pytest.raises(ValueError, match=r"best.json .* must be whole"):
            refuses()


def test_best_weights_without_their_words_are_refused(tmp_path):
    model = Counting([0.9])
    keep_best = checkpoints.KeepBest(tmp_path, "rate")
    model.epoch(keep_best, 0)
    (tmp_path / "checkpoints" / "best.json").unlink()
    keep_best.on_train_begin()  # killed before the first checkpoint: begins anew
    model.epoch(checkpoints.EpochCheckpoint(tmp_path / "checkpoints"), 0)
    for refuses in (keep_best.on_train_begin, lambda: keep_best.restore(model, {})):
        with pytest.raises(ValueError, match=r"best.json .* must be whole"):
            refuses()


def test_a_best_epoch_that_was_cut_off_leaves_the_one_before(tmp_path, monkeypatch):
    model = Counting([0.1, 0.9])
    keep_best = checkpoints.KeepBest(tmp_path, "rate")
    model.epoch(keep_best, 0)
    monkeypatch.setattr(checkpoints, "write_aside", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.epoch(keep_best, 1)
    keep_best.restore(model, {})
    assert float(model.count) == 1.0


def test_where_there_is_no_room_nothing_is_written(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match="must have 1.0 MB free for a checkpoint. Received: 0.0 MB"):
        Counting([0.0]).epoch(checkpoints.EpochCheckpoint(tmp_path), 0)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    model = Counting([0.0])

    def fail(path, **_):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(model, "save_weights", fail)
    with pytest.raises(OSError, match="no space left"):
        model.epoch(checkpoints.EpochCheckpoint(tmp_path), 0)
    assert not list(tmp_path.iterdir())


def test_a_history_is_cut_where_a_run_goes_on(tmp_path):
    path = tmp_path / "history.csv"
    run_folder.cut_history(path, 1)
    assert not path.exists()
    for text, epochs, left in (
        ("epoch,loss\n0,3\n1,2\n2,1\n", 2, "epoch,loss\n0,3\n1,2\n"),
        ("epoch,loss\n0,3\n1,2\n2,1", 3, "epoch,loss\n0,3\n1,2\n"),
        ("epoch,lo", 3, ""),
        ("epoch,loss\n0,3\n", 0, "epoch,loss\n"),
        ("", 0, ""),
    ):
        path.write_text(text)
        run_folder.cut_history(path, epochs)
        assert path.read_text() == left
