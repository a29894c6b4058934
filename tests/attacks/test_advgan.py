"""AdvGAN moves its own two parts, stays within its budget, and counts only what it caused."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfpurify.attacks.advgan import AdvGAN
from tfpurify.attacks.perturbation_generator import PerturbationGenerator
from tfpurify.evaluation.rates import evaluate
from tfpurify.vocabulary import ADVERSARIAL_LOSSES, GAN_LOSSES

SHAPE = (28, 28, 1)


def make_advgan(target, learning_rate=1e-3, **kwargs):
    keras.utils.set_random_seed(0)
    model = AdvGAN(SHAPE, target, bottleneck_channels=8, width=4, **kwargs)
    model.build()
    model.compile(keras.optimizers.Adam(learning_rate), keras.optimizers.Adam(learning_rate))
    return model


def kernels(part):
    """A bias in front of a normalisation has no gradient; every kernel has one."""
    return [variable for variable in part.trainable_variables if len(variable.shape) > 1]


def always_zero(images):
    """Says class 0 of every image, with a gradient that no image can follow to success."""
    brightness = tf.reduce_mean(images, axis=(1, 2, 3))
    return tf.stack([10.0 + brightness, *[tf.zeros_like(brightness)] * 9], axis=1)


@pytest.mark.parametrize(
    ("adversarial_loss", "gan_loss", "target_class"),
    list(itertools.product(ADVERSARIAL_LOSSES, GAN_LOSSES, (None, 3))),
)
def test_a_step_moves_generator_and_discriminator_and_never_the_target(
    classifier, batch, moved, adversarial_loss, gan_loss, target_class
):
    model = make_advgan(
        classifier, adversarial_loss=adversarial_loss, gan_loss=gan_loss, target_class=target_class
    )
    generator_moved = moved(kernels(model.generator))
    discriminator_moved = moved(kernels(model.discriminator))
    target_moved = moved(classifier.weights)
    logs = model.train_step(batch)
    assert all(generator_moved()) and all(discriminator_moved())
    assert not any(target_moved())
    assert int(model.generator_optimizer.iterations) == 1
    assert int(model.discriminator_optimizer.iterations) == 1
    assert np.all(np.isfinite([float(value) for value in logs.values()]))


def test_each_part_of_the_loss_has_its_weight(classifier, batch):
    def logs(**kwargs):
        model = make_advgan(classifier, hinge_bound=0.5, **kwargs)
        return {name: float(value) for name, value in model.train_step(batch).items()}

    plain = logs(alpha=0.0, beta=0.0)
    np.testing.assert_allclose(plain["generator_loss"], plain["adversarial_loss"], rtol=1e-5)
    assert plain["hinge_loss"] > 0
    weighted = logs(alpha=2.0, beta=5.0)
    expected = plain["adversarial_loss"] + 2 * plain["gan_loss"] + 5 * plain["hinge_loss"]
    np.testing.assert_allclose(weighted["generator_loss"], expected, rtol=1e-5)


@pytest.mark.parametrize("epsilon", [0.03, 0.2, 1.0])
def test_stays_within_epsilon_and_the_range(classifier, batch, epsilon):
    model = make_advgan(classifier, epsilon=epsilon)
    # Saturates the tanh.
    model.generator.stack.layers[-2].kernel.assign(100.0 * model.generator.stack.layers[-2].kernel)
    images, labels = batch
    for inputs in (images, np.zeros_like(images), np.ones_like(images)):
        adversarial_images = model(inputs, labels).numpy()
        assert adversarial_images.shape == inputs.shape
        assert adversarial_images.dtype == np.float32
        assert adversarial_images.min() >= 0 and adversarial_images.max() <= 1
        assert np.abs(adversarial_images - inputs).max() <= epsilon + 1e-6
    perturbation = np.abs(model.perturb(images))
    assert 0.99 * epsilon < perturbation.max() <= np.float32(epsilon)  # NumPy 1 compares as float64
    np.testing.assert_allclose(
        model(images), np.clip(images + model.perturb(images), 0, 1), atol=1e-6
    )


def test_a_few_dozen_steps_fool_a_classifier(classifier, digits, moved):
    model = make_advgan(classifier, learning_rate=5e-3, beta=0.1)
    target_moved = moved(classifier.weights)
    images, labels = digits
    clean = np.mean(np.argmax(classifier(images), axis=1) == labels)
    before = model.evaluate(images, labels, batch_size=100, verbose=0, return_dict=True)
    model.fit(images, labels, batch_size=50, epochs=4, verbose=0)
    after = model.evaluate(images, labels, batch_size=100, verbose=0, return_dict=True)
    rates = evaluate([(images, labels)], classifier, attack=model)
    assert rates["robust_accuracy"] == pytest.approx(after["robust_accuracy"])
    assert after["robust_accuracy"] < 0.8 * clean
    assert after["robust_accuracy"] < before["robust_accuracy"]
    assert after["attack_success_rate"] > before["attack_success_rate"] + 0.2
    assert not any(target_moved())


def test_a_targeted_attack_moves_images_towards_its_class(classifier, digits):
    model = make_advgan(classifier, learning_rate=5e-3, beta=0.1, target_class=8)
    images, labels = digits

    def share():
        return np.mean(np.argmax(classifier(model(images)), axis=1) == 8)

    before = share()
    model.fit(images, labels, batch_size=50, epochs=4, verbose=0)
    assert share() > before + 0.2


def test_clean_errors_are_no_successes(batch):
    images, _ = batch
    labels = np.array([0, 0, 0, 1, 2, 3, 4, 5])
    model = make_advgan(always_zero)
    logs = model.test_step((images, labels))
    np.testing.assert_allclose(logs["robust_accuracy"], 3 / 8)
    np.testing.assert_allclose(logs["attack_success_rate"], 0.0)


def test_successes_are_counted_among_what_was_right_before(batch):
    images, _ = batch
    labels = np.array([0, 0, 0, 0, 0, 0, 5, 5])

    def fooled_on_the_first_two(inputs):
        changed = tf.reduce_any(inputs != images, axis=(1, 2, 3))
        wrong = tf.logical_and(changed, tf.range(8) < 2)
        return tf.one_hot(tf.where(wrong, 7, 0), 10)

    advgan = make_advgan(always_zero, evaluation_target=fooled_on_the_first_two)
    logs = advgan.test_step((images, labels))
    np.testing.assert_allclose(logs["robust_accuracy"], 4 / 8)
    np.testing.assert_allclose(logs["attack_success_rate"], 2 / 6, rtol=1e-6)


def test_a_targeted_success_is_the_target_class_where_it_was_not_before(batch):
    images, _ = batch
    labels = np.array([0, 0, 0, 0, 7, 7, 0, 5])

    def target(inputs):
        changed = tf.reduce_any(inputs != images, axis=(1, 2, 3))
        before = tf.constant([0, 0, 0, 0, 7, 7, 3, 5])
        return tf.one_hot(tf.where(changed, tf.constant([7, 7, 2, 0, 7, 1, 7, 5]), before), 10)

    # Labels 7 do not count, nor does the clean error; class 2 is an error but not the one wanted.
    advgan = make_advgan(always_zero, evaluation_target=target, target_class=7)
    logs = advgan.test_step((images, labels))
    np.testing.assert_allclose(logs["attack_success_rate"], 2 / 5, rtol=1e-6)
    np.testing.assert_allclose(logs["robust_accuracy"], 3 / 8)


@pytest.mark.parametrize("adversarial_loss", ADVERSARIAL_LOSSES)
def test_a_target_class_that_the_target_does_not_have_is_refused(
    classifier, batch, adversarial_loss
):
    model = make_advgan(classifier, target_class=10, adversarial_loss=adversarial_loss)
    message = r"`target_class` must be in \[0, num_classes\). Received: target_class=10, .*=10"
    for step in (model.train_step, model.test_step):
        with pytest.raises(ValueError, match=message):
            step(batch)


def test_successes_are_counted_on_what_is_served(batch):
    images, _ = batch
    labels = np.zeros(8, int)

    def always_one(inputs):
        return tf.roll(always_zero(inputs), 1, axis=1)

    class Soft:
        """A target for attacks to climb, whose exact form says something else."""

        exact_logits = staticmethod(always_zero)

        def __call__(self, inputs):
            return always_one(inputs)

    for model in (
        make_advgan(Soft()),
        make_advgan(always_one, evaluation_target=always_zero),
        make_advgan(Soft(), evaluation_target=always_zero),
    ):
        np.testing.assert_allclose(model.test_step((images, labels))["robust_accuracy"], 1.0)


DEAD_TARGETS = {
    "none": (tf.stop_gradient, ValueError, "must exist. Received: None"),
    "zero": (lambda images: images * 0.0, tf.errors.InvalidArgumentError, "must not vanish"),
    "nan": (
        lambda images: images * np.float32("nan"),
        tf.errors.InvalidArgumentError,
        "must be finite",
    ),
}


@pytest.mark.parametrize(
    ("kill", "error", "message"), DEAD_TARGETS.values(), ids=DEAD_TARGETS.keys()
)
def test_a_dead_target_stops_the_training(classifier, batch, moved, kill, error, message):
    model = make_advgan(lambda images: classifier(kill(images)))
    generator_moved = moved(model.generator.trainable_variables)
    # Through `fit`, because its graph is where an assertion could get lost.
    with pytest.raises(error, match=f"gradient through the target {message}"):
        model.fit(*batch, batch_size=8, verbose=0)
    assert not any(generator_moved())


def test_xla_which_drops_assertions_is_not_used_by_default(classifier, monkeypatch):
    # What Keras answers where there is a GPU.
    monkeypatch.setattr(AdvGAN, "_resolve_auto_jit_compile", lambda self: True)
    assert not make_advgan(classifier).jit_compile


def test_a_target_that_is_fooled_already_is_not_dead(batch):
    images, _ = batch
    model = make_advgan(always_zero)
    logs = model.train_step((images, np.full(8, 3)))  # says 0 of every 3
    np.testing.assert_allclose(logs["adversarial_loss"], 0.0)
    np.testing.assert_allclose(logs["adversarial_error"], 1.0)


@pytest.mark.parametrize(("target_class", "label"), [(0, 3), (None, 3)])
def test_a_saturated_cross_entropy_is_not_dead_once_all_are_fooled(batch, target_class, label):
    def sure_of_zero(inputs):
        # Past what the softmax of a float32 can tell from 1: its gradient is exactly zero.
        return 1000.0 * always_zero(inputs)

    images, _ = batch
    model = make_advgan(sure_of_zero, adversarial_loss="cross_entropy", target_class=target_class)
    logs = model.train_step((images, np.full(8, label)))
    assert np.isfinite(float(logs["adversarial_loss"]))


def test_a_saturated_cross_entropy_with_all_to_gain_is_dead(batch):
    images, _ = batch
    model = make_advgan(
        lambda inputs: 1000.0 * always_zero(inputs), adversarial_loss="cross_entropy"
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="must not vanish"):
        model.train_step((images, np.zeros(8, int)))


def test_any_callable_is_a_target(classifier, batch, tmp_path):
    def target(images):
        return classifier(images)

    model = make_advgan(target)
    model.train_step(batch)
    assert model.get_config()["target"] is None
    path = tmp_path / "advgan.keras"
    model.save(path)
    loaded = keras.saving.load_model(path)
    np.testing.assert_allclose(loaded(batch[0]), model(batch[0]), atol=1e-6)
    with pytest.raises(ValueError, match="needs a `target`. Received: target=None"):
        loaded.train_step(batch)


def test_the_bottleneck_keeps_a_map_that_normalisation_cannot_erase():
    generator = PerturbationGenerator((32, 32, 3), bottleneck_channels=96)
    generator.build()
    convolutions = [i for i in generator.stack.layers if isinstance(i, keras.layers.Conv2D)]
    assert [layer.filters for layer in convolutions[:5]][-1] == 96
    assert convolutions[4].output.shape[1:3] == (8, 8)
    images = np.random.default_rng(0).uniform(size=(2, 32, 32, 3)).astype("float32")
    perturbation = generator(images)
    assert perturbation.shape == (2, 32, 32, 3)
    assert np.abs(perturbation[0] - perturbation[1]).max() > 1e-4
    assert float(ops.max(ops.abs(perturbation))) <= 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 0.0}, r"`epsilon` must be in \(0, 1\]. Received: epsilon=0.0"),
        ({"epsilon": 1.5}, "epsilon=1.5"),
        ({"adversarial_loss": "cw"}, r"`adversarial_loss` must be one of \['margin', .*'cw'"),
        ({"target_class": -1}, "`target_class` must be an int >= 0 or None. Rec.*target_class=-1"),
        ({"target_class": 3.0}, "target_class=3.0"),
        ({"target_class": True}, "target_class=True"),
        ({"gan_loss": "wgan"}, r"`gan_loss` must be one of \['least_squares', .*'wgan'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdvGAN(SHAPE, **arguments)
