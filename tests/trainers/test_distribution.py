"""Trainings on several devices and on several workers, each in processes of their own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify import load_model
from tfpurify.evaluation import records
from tfpurify.models import optimizers
from tfpurify.training.cluster import from_environment
from tfpurify.training.distribution import Distribution

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PATIENCE = 300  # seconds; a pair of workers takes half a minute
CLUSTER = {"worker": ["host0:2222", "host1:2222"]}


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if name != "TFDS_DATA_DIR"}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **more,
    }


def tf_config(cluster, task):
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


@pytest.mark.parametrize(
    ("cluster", "task", "own"),
    [
        (CLUSTER, {"type": "worker", "index": 0}, 0),
        (CLUSTER, {"type": "worker", "index": 1}, 1),
        ({**CLUSTER, "chief": ["host2:2222"]}, {"type": "chief", "index": 0}, 0),
        ({**CLUSTER, "chief": ["host2:2222"]}, {"type": "worker", "index": 0}, 1),
    ],
)
def test_tf_config_says_who_we_are(cluster, task, own):
    addresses, found = from_environment(tf_config(cluster, task))
    assert found == own
    assert addresses == [*cluster.get("chief", []), *CLUSTER["worker"]]


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"TF_CONFIG": ""},
        {"TF_CONFIG": "host0:2222"},
        {"TF_CONFIG": "[]"},
        tf_config({}, {"type": "worker", "index": 0}),
        tf_config(CLUSTER, {"type": "worker"}),
        tf_config(CLUSTER, {"type": "worker", "index": 2}),
        tf_config(CLUSTER, {"type": "worker", "index": -1}),
        tf_config(CLUSTER, {"type": "worker", "index": "0"}),
        tf_config(CLUSTER, {"type": "evaluator", "index": 0}),
        tf_config(CLUSTER, {"type": "chief", "index": 0}),
        tf_config({**CLUSTER, "ps": ["host2:2222"]}, {"type": "worker", "index": 0}),
        tf_config({"worker": ["host0"]}, {"type": "worker", "index": 0}),
        tf_config({"worker": "host0:2222"}, {"type": "worker", "index": 0}),
        tf_config({"worker": ["host0:2222"] * 2}, {"type": "worker", "index": 0}),
    ],
)
def test_a_wrong_tf_config_is_refused(environment):
    with pytest.raises(ValueError, match="`TF_CONFIG` must name a cluster .* Received: TF_CONFIG="):
        from_environment(environment)


def test_workers_without_tf_config_end_at_once(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="`TF_CONFIG` must name"):
        Distribution("multi_worker", 8)


@pytest.mark.parametrize(("epochs", "start"), [(0, "from the beginning"), (3, "after epoch 3")])
def test_a_lost_worker_is_an_error_that_says_what_to_do(epochs, start):
    distribution = Distribution("none", 8)
    distribution._addresses = CLUSTER["worker"]
    message = f"host0:2222, host1:2222.*Start all of them again.*{start}. Received: Unavailable"
    with pytest.raises(ConnectionError, match=message), distribution.needing_all(lambda: epochs):
        raise tf.errors.UnavailableError(None, None, "Collective ops is aborted by: gone")


def test_alone_nothing_is_shared():
    distribution = Distribution("none", 8)
    assert distribution.is_chief and distribution.share(3) == [3]


def test_mirrored_on_one_device_takes_the_steps_of_fit():
    inputs, targets = np.ones((8, 3), "float32"), np.zeros((8, 1), "float32")
    batches = tf.data.Dataset.from_tensors((inputs, targets)).repeat()
    found = []
    for kind in ("none", "mirrored"):
        distribution = Distribution(kind, 8)
        keras.utils.set_random_seed(0)
        with distribution.scope():
            model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
            model.compile(optimizers.Adam(0.1), "mse")
        distribution.fit(model, batches, steps_per_epoch=4, epochs=2, verbose=0)
        found.append([np.array(variable) for variable in model.variables])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def pytest_in_a_process(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", str(FOLDER / "two_devices.py"), *arguments],
        cwd=ROOT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=4 * PATIENCE,
        check=False,
    )
    if done.returncode:
        pytest.fail(done.stdout)


def test_two_devices():
    pytest_in_a_process()


@pytest.mark.slow
def test_every_trainer_on_two_devices():
    pytest_in_a_process("-m", "slow")


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@contextlib.contextmanager
def two_workers(output_dir, trainer, *arguments):
    """Starts two workers of a training, and ends what is left of them."""
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    command = [sys.executable, str(FOLDER / "one_worker.py"), trainer]
    command += ["--distribution=multi_worker", "--data_source=embedded", "--batch_size=8"]
    command += ["--validation_examples=8", "--eval_examples=8", f"--output_dir={output_dir}"]
    workers = []
    try:
        for index in range(2):
            place = tf_config(cluster, {"type": "worker", "index": index})
            workers.append(
                subprocess.Popen(
                    [*command, *arguments],
                    cwd=output_dir,
                    env=environment(**place),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()


def digests_of(workers):
    """Returns what each of two workers says of its weights, once both have ended well."""
    found = []
    for worker in workers:
        output, errors = worker.communicate(timeout=PATIENCE)
        assert worker.returncode == 0, errors[-3000:]
        found.append([line for line in output.splitlines() if line.startswith("digest")])
    return found


def wait_for(folder, pattern, workers):
    end = time.monotonic() + PATIENCE
    while not any(folder.glob(pattern)):
        for worker in workers:
            assert worker.poll() is None, worker.stderr.read()[-3000:]
        assert time.monotonic() < end, f"{pattern} must appear within {PATIENCE} s"
        time.sleep(0.1)


@pytest.mark.parametrize("lost", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_killed_worker_ends_the_other_and_both_go_on_together(tmp_path, lost):
    options = ["--steps_per_epoch=2", "--classifier=cnn"]  # with batch normalisation and dropout
    folder = tmp_path / "runs" / "cnn_mnist"
    with two_workers(tmp_path, "classifier", *options, "--epochs=500") as workers:
        wait_for(folder, "checkpoints/epoch-0*[2-9]-*", workers)
        workers[lost].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        _, errors = workers[1 - lost].communicate(timeout=60)
        seconds = time.monotonic() - killed
    assert workers[1 - lost].returncode == 1
    *_, last = errors.splitlines()
    assert last.startswith("error: All workers (127.0.0.1:"), errors[-3000:]
    assert "Start all of them again" in last and "they go on after epoch" in last
    assert seconds < 60
    epoch = int(max((folder / "checkpoints").glob("epoch-*")).name[6:10])

    with two_workers(tmp_path, "classifier", *options, f"--epochs={epoch + 2}") as workers:
        chief, other = digests_of(workers)
    assert len(chief) == 1 and chief == other
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["resumed_after_epoch"] == epoch
    rows = (folder / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + epoch + 2  # one chief alone wrote them
    assert records.read_records(folder / "record.jsonl")[0]["n"] == 8
    model = load_model(folder / "model.keras")
    images = tf.random.stateless_uniform((2, 28, 28, 1), [0, 0])
    served = tf.saved_model.load(str(tmp_path / "saved_models" / "cnn_mnist" / "1"))
    logits = served.signatures["serving_default"](images=images)["logits"]
    tf.debugging.assert_near(logits, model(images), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "options", "trainings"),
    [
        ("puvae", ["--latent_dim=4", "--train_steps=2"], 1),
        ("puvae", ["--adversarial", "--latent_dim=4", "--attack_steps=2", "--train_steps=2"], 1),
        ("defensegan", ["--num_steps=2", "--num_restarts=1", "--train_steps=2"], 1),
        ("defensegan", ["--gan_loss=wgan-gp", "--critic_steps=2", "--train_steps=4"], 1),
        ("encoder", ["--train_steps=2"], 1),
        ("advgan", ["--train_steps=2"], 1),
        ("advgan", ["--blackbox=dynamic", "--surrogate=cnn", "--train_steps=2"], 2),
    ],
)
def test_every_trainer_leaves_equal_weights_on_two_workers(tmp_path, trainer, options, trainings):
    with two_workers(tmp_path, trainer, *options) as workers:
        chief, other = digests_of(workers)
    assert len(chief) == trainings and chief == other


@pytest.mark.slow
def test_workers_stop_together_where_a_loss_is_not_finite(tmp_path):
    options = ["--classifier=b", "--learning_rate=1e30", "--train_steps=6"]
    with two_workers(tmp_path, "classifier", *options) as workers:
        for worker in workers:
            _, errors = worker.communicate(timeout=PATIENCE)
            assert worker.returncode == 1
            assert "must be finite. Received: nan at step" in errors.splitlines()[-1]
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.slow
def test_workers_with_other_options_are_refused(tmp_path):
    with two_workers(tmp_path, "classifier", "--train_steps=2") as workers:
        digests_of(workers)
    with two_workers(tmp_path, "classifier", "--train_steps=2", "--learning_rate=0.5") as workers:
        for worker in workers:
            _, errors = worker.communicate(timeout=PATIENCE)
            assert worker.returncode == 1
            assert "Start over with --noresume" in errors.splitlines()[-1]
