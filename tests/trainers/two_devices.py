"""Tests of a machine with two devices; on their own, as TensorFlow has them from its start.

`test_distribution.py` runs this file in a process. By hand:
`python -m pytest tests/trainers/two_devices.py`.
"""

import importlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tiny_runs import TINY, make_fn_args

from tfpurify import load_model
from tfpurify.attacks.advgan import AdvGAN
from tfpurify.attacks.distillation import Distiller, DynamicAdvGAN
from tfpurify.models import optimizers, replicas
from tfpurify.purifiers.dcgan import DCGAN, Generator
from tfpurify.purifiers.latent_encoder import LatentEncoder
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.training import callbacks
from tfpurify.training.distribution import Distribution

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
SHAPE = (8, 8, 1)
STEPS = 3


def images_and_labels(count=16):
    images = np.random.default_rng(0).uniform(size=(count, *SHAPE)).astype("float32")
    return images, np.arange(count) % 10


def batches():
    return tf.data.Dataset.from_tensor_slices(images_and_labels()).batch(8)


def linear(seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(10)])


def plain(optimizer):
    model = linear(0)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def sgd():
    return optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=0.01)


def compiled(model, count=1):
    model.build()
    model.compile(*(optimizers.Adam(0.01) for _ in range(count)))
    return model


def latent_encoder():
    generator = Generator(SHAPE, latent_dim=4)
    generator.build()
    return LatentEncoder(SHAPE, 4, generator, (4, 8), 16, input_noise=0.0)


# None of them has noise or batch normalisation, which depend on the part of the batch.
MODELS = {
    "keras_adamw": lambda: plain(keras.optimizers.AdamW(0.01, weight_decay=0.01)),
    "sgd": lambda: plain(sgd()),
    "puvae": lambda: compiled(PuVAE(SHAPE, latent_dim=4, classifier=linear(), training_noise=0.0)),
    "latent_encoder": lambda: compiled(latent_encoder()),
    "advgan": lambda: compiled(AdvGAN(SHAPE, linear(), bottleneck_channels=4, width=4), 2),
    "dynamic": lambda: compiled(
        DynamicAdvGAN(SHAPE, linear(2), linear(), bottleneck_channels=4, width=4), 3
    ),
    "distiller": lambda: compiled(Distiller(linear(2), linear())),
}
SLOW = ("latent_encoder", "dynamic")


def weights_after_training(distribution, make, steps=STEPS):
    keras.utils.set_random_seed(5)
    with distribution.scope():
        model = make()
    before = [np.array(variable) for variable in model.trainable_variables]
    history = distribution.fit(model, batches().repeat(), steps_per_epoch=steps, epochs=1)
    after = [np.array(variable) for variable in model.trainable_variables]
    return model, history, before, after


@pytest.fixture(scope="module")
def mirrored():
    distribution = Distribution("mirrored", 8)
    assert distribution.strategy.num_replicas_in_sync == 2
    return distribution


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in MODELS]
)
def test_two_devices_take_one_device_s_steps(mirrored, name):
    single = Distribution("none", 8)
    _, expected_logs, _, expected = weights_after_training(single, MODELS[name])
    _, logs, before, found = weights_after_training(mirrored, MODELS[name])
    # Adam turns the rounding of a gradient that is zero into a step.
    alike = [np.isclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(found, expected, strict=True)]
    moved = [np.abs(a - b).max() for a, b in zip(before, expected, strict=True)]
    assert max(moved) > 0.005
    assert np.mean(np.concatenate([part.ravel() for part in alike])) > 0.999
    assert logs.history.keys() == expected_logs.history.keys()
    for key, (value,) in logs.history.items():
        np.testing.assert_allclose(value, expected_logs.history[key][0], rtol=1e-3, atol=1e-4)


def test_the_step_would_be_another_without_the_mean(mirrored, monkeypatch):
    monkeypatch.setattr(
        "tfpurify.attacks.distillation.apply_mean",
        lambda optimizer, gradients, variables: optimizer.apply(gradients, variables),
    )

    def make():
        model = Distiller(linear(2), linear())
        model.build()
        model.compile(keras.optimizers.SGD(0.1))
        return model

    _, _, _, summed = weights_after_training(mirrored, make, steps=1)
    monkeypatch.undo()
    _, _, before, mean = weights_after_training(mirrored, make, steps=1)
    for old, twice, once in zip(before, summed, mean, strict=True):
        np.testing.assert_allclose(twice - old, 2.0 * (once - old), rtol=1e-3, atol=1e-6)


def test_each_replica_has_its_own_noise(mirrored):
    def noise():
        step = replicas.own_step(tf.constant(3))
        return step, tf.random.stateless_normal((2,), tf.stack([0, step]))

    steps, noises = mirrored.strategy.run(tf.function(noise))
    assert [int(step) for step in steps.values] == [6, 7]
    assert not np.array_equal(*noises.values)
    assert replicas.own_step(3) == 3


def test_a_batch_is_dealt_out_once(mirrored):
    seen = []

    class Seeing(keras.Model):
        def train_step(self, data):
            images, _ = data
            return {"sum": tf.reduce_sum(images), "count": tf.cast(tf.shape(images)[0], "float32")}

        test_step = train_step

    with mirrored.scope():
        model = Seeing()
        model.compile(optimizer=None)
    log = keras.callbacks.LambdaCallback(on_train_batch_end=lambda _, logs: seen.append(logs))
    mirrored.fit(
        model,
        batches().repeat(),
        steps_per_epoch=2,
        epochs=1,
        validation_data=batches(),
        callbacks=[log],
        verbose=0,
    )
    images, _ = images_and_labels()
    for logs, part in zip(seen, (images[:8], images[8:]), strict=True):
        assert logs["count"] == 4
        np.testing.assert_allclose(2 * logs["sum"], part.sum(), rtol=1e-5)
    assert model.history.history["val_count"] == [8.0]


def test_batch_statistics_are_averaged_and_dropouts_differ(mirrored):
    def make():
        model = keras.Sequential(
            [
                keras.Input(SHAPE),
                layers.BatchNormalization(momentum=0.5),
                layers.Flatten(),
                layers.Dropout(0.5, seed=1),
                layers.Dense(10),
            ]
        )
        model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
        return model

    model, *_ = weights_after_training(mirrored, make, steps=1)
    normalization, _, dropout, _ = model.layers
    images, _ = images_and_labels()
    halves = [0.5 * images[:4].mean(), 0.5 * images[4:8].mean()]
    own = [value.numpy()[0] for value in normalization.moving_mean.value.values]
    assert own[0] == own[1]
    np.testing.assert_allclose(own[0], np.mean(halves), rtol=1e-5)
    seeds = [value.numpy().tolist() for value in dropout.seed_generator.state.value.values]
    assert seeds[0] != seeds[1]


def test_wasserstein_generators_wait_for_their_turn(mirrored):
    def make():
        model = DCGAN(SHAPE, latent_dim=4, gan_loss="wgan-gp", critic_steps=3)
        return compiled(model, 2)

    model, history, before, after = weights_after_training(mirrored, make, steps=7)
    assert model.discriminator_optimizer.iterations.numpy() == 7
    assert model.generator_optimizer.iterations.numpy() == 2
    assert np.isfinite(list(history.history.values())).all()
    moved = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert sum(moved) == len(moved) - 1  # a critic's last bias has no slope


def test_a_loss_that_is_not_finite_stops_both(mirrored):
    with mirrored.scope():
        model = plain(keras.optimizers.SGD(3e38))
    with pytest.raises(FloatingPointError, match="`loss` must be finite. Received: nan at step"):
        mirrored.fit(
            model,
            batches().repeat(),
            steps_per_epoch=STEPS,
            epochs=1,
            callbacks=[callbacks.StopOnNonFiniteLoss()],
            verbose=0,
        )


def test_replicas_need_equal_parts(mirrored):
    with pytest.raises(ValueError, match="a multiple of the 2 replicas.* Received: batch_size=9"):
        Distribution("mirrored", 9)


def run(trainer, folder, **options):
    config = {**TINY, "output_dir": str(folder), "distribution": "mirrored", **options}
    importlib.import_module(f"trainers.{trainer}").run_fn(make_fn_args(config))


def test_a_run_goes_on_and_serves_where_there_is_one_device(mirrored, tmp_path):
    run("classifier", tmp_path, epochs=1, steps_per_epoch=2, train_steps=None, classifier="b")
    run("classifier", tmp_path, epochs=2, steps_per_epoch=2, train_steps=None, classifier="b")
    folder = tmp_path / "runs" / "b_mnist"
    assert (folder / "history.csv").read_text().count("\n") == 3
    for variable in load_model(folder / "model.keras").weights:
        assert np.isfinite(np.array(variable)).all()
    assert (tmp_path / "saved_models" / "b_mnist" / "1").is_dir()
    run(
        "classifier",
        tmp_path,
        epochs=3,
        steps_per_epoch=2,
        train_steps=None,
        classifier="b",
        distribution="none",
    )
    assert (folder / "history.csv").read_text().count("\n") == 4


def test_a_dead_gradient_names_its_layer(mirrored, tmp_path, dead_layer):
    with pytest.raises(ValueError, match=dead_layer):
        run("advgan", tmp_path)
    assert not list(tmp_path.glob("runs/*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("trainer", "options"),
    [
        ("classifier", {}),
        ("puvae", {"latent_dim": 4, "input_noise": 0.2, "classification_labels": "random"}),
        ("puvae", {"latent_dim": 4, "adversarial": True, "attack_steps": 2}),
        ("defensegan", {"num_steps": 2, "num_restarts": 1}),
        ("defensegan", {"num_steps": 2, "num_restarts": 1, "gan_loss": "wgan-gp"}),
        ("encoder", {}),
        ("advgan", {"mixed_precision": True}),
        ("advgan", {"defense": "puvae", "whitebox": True}),
        ("advgan", {"defense": "defensegan", "whitebox": True, "num_steps": 2}),
        ("advgan", {"blackbox": "static", "surrogate": "b"}),
        ("advgan", {"blackbox": "dynamic", "surrogate": "b"}),
    ],
)
def test_every_trainer_leaves_a_whole_run(mirrored, tmp_path, trainer, options):
    run(trainer, tmp_path, **options)
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "summary.json").exists() and (folder / "record.jsonl").exists()
    load_model(folder / "model.keras")
    (bundle, *_) = (tmp_path / "saved_models").iterdir()
    tf.saved_model.load(str(bundle / "1"))
