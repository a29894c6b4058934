"""The encoder learns to project; DefenseGAN's fast projector starts from it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.models.losses import projection_error
from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.latent_encoder import LatentEncoder

Z = tf.random.stateless_normal((64, 4), seed=[6, 6])


@pytest.fixture(scope="module")
def made(generator):
    """64 images that the generator makes."""
    return generator(Z)


@pytest.fixture(scope="module")
def encoder(generator, made):
    """An encoder that was trained for a few steps on what the generator makes."""
    keras.utils.set_random_seed(5)
    model = LatentEncoder((28, 28, 1), 4, generator, filters=(8,), units=16, num_refinements=1)
    model.build()
    model.compile(keras.optimizers.Adam(3e-3))
    model.fit(made, epochs=20, batch_size=16, verbose=0)
    model.fit_preconditioner()
    return model


def project(generator, encoder, images, **options):
    _, errors = DefenseGAN(generator, encoder, **options).project(images)
    return np.min(errors, axis=1)


def test_training_lowers_the_error_and_moves_the_encoder_alone(generator, made, moved):
    keras.utils.set_random_seed(5)
    model = LatentEncoder((28, 28, 1), 4, generator, filters=(8,), units=16, num_refinements=1)
    model.build()
    model.compile(keras.optimizers.Adam(3e-3))
    generator_moved, weights_moved = moved(generator.weights), moved(model.trainable_variables)
    before = model.evaluate(made, verbose=0, return_dict=True)
    model.fit(made, epochs=5, batch_size=16, verbose=0)
    after = model.evaluate(made, verbose=0, return_dict=True)
    assert after["projection_error"] < 0.9 * before["projection_error"]
    assert all(weights_moved()) and not any(generator_moved())


def test_each_stage_gets_the_gradient_of_its_own_error(generator, made):
    keras.utils.set_random_seed(5)
    model = LatentEncoder((28, 28, 1), 4, generator, filters=(8,), units=16, num_refinements=1)
    model.build()
    folded = generator.folded()
    with tf.GradientTape(persistent=True) as tape:
        loss = model._loss(made)
        z = model(made)
        first = 784 * tf.reduce_mean(projection_error(made, generator(z)))
        given = tf.stop_gradient(z)
        second = model.refine(made, folded(given), given)
        last = 784 * tf.reduce_mean(projection_error(made, generator(second)))
    for part, expected in ((model.encoder_head, first), (model.refiner_head, last)):
        gradients = tape.gradient(loss, part.trainable_variables)
        for gradient, plain in zip(
            gradients, tape.gradient(expected, part.trainable_variables), strict=True
        ):
            np.testing.assert_allclose(gradient, plain, atol=1e-3 * np.abs(plain).max() + 1e-6)


def test_training_without_a_generator_is_refused(made):
    model = LatentEncoder((28, 28, 1), 4, filters=(8,), units=16)
    model.build()
    model.compile(keras.optimizers.Adam())
    with pytest.raises(ValueError, match="needs its generator"):
        model.train_step(made)


def test_the_preconditioner_is_the_damped_inverse_of_the_curvature(generator, encoder):
    z = tf.random.stateless_normal((4000, 4), seed=[9, 9])
    curvature = generator.folded().curvature(z)
    product = encoder.preconditioner @ curvature / (np.trace(curvature) / 4)
    np.testing.assert_allclose(product, np.eye(4), atol=0.3)
    np.testing.assert_allclose(
        encoder.preconditioner, tf.transpose(encoder.preconditioner), rtol=1e-4
    )


def test_fast_is_the_default_with_an_encoder(generator, encoder):
    assert DefenseGAN(generator).projector == "reference"
    fast = DefenseGAN(generator, encoder)
    assert (fast.projector, fast.num_steps, fast.num_restarts) == ("fast", 10, 2)
    assert DefenseGAN(generator, encoder, "reference").num_steps == 200


def test_fast_beats_the_reference_for_the_same_steps(generator, encoder, made):
    images = tf.clip_by_value(made + 0.1, 0.0, 1.0)
    fast = project(generator, encoder, images, num_steps=15, num_restarts=1)
    reference = project(generator, encoder, images, projector="reference", num_steps=15)
    assert np.mean(fast) < np.mean(reference)


@pytest.mark.parametrize("efforts", [[(1, 1), (4, 1), (16, 1)], [(8, 1), (8, 2), (8, 5)]])
def test_more_effort_never_costs_much(generator, encoder, made, efforts):
    errors = [
        project(generator, encoder, made, num_steps=steps, num_restarts=restarts)
        for steps, restarts in efforts
    ]
    for less, more in zip(errors, errors[1:], strict=False):
        assert np.mean(more) <= np.mean(less) + 1e-4


def test_no_image_ends_above_its_start(generator, encoder, made):
    started = projection_error(made, generator(encoder.encode(made, generator)))
    for step_size in (2.0, 1e6):
        ended = project(generator, encoder, made, step_size=step_size, num_steps=3)
        assert np.all(ended <= started + 1e-5)


def test_a_start_that_was_left_out_keeps_its_best(generator, encoder, made):
    purifier = DefenseGAN(generator, encoder, num_steps=4, num_restarts=3)
    z, errors = purifier.project(made)
    assert z.shape == (64, 3, 4)
    for restart in range(3):
        np.testing.assert_allclose(
            errors[:, restart], projection_error(made, generator(z[:, restart])), atol=1e-5
        )
    nearest = tf.gather(z, tf.argmin(errors, axis=1), axis=1, batch_dims=1)
    np.testing.assert_allclose(purifier(made), generator(nearest), atol=1e-5)


def test_an_encoder_that_is_fooled_is_overruled(generator, encoder, made):
    class Fooled(LatentEncoder):
        def encode(self, images, generate):
            return tf.fill((tf.shape(images)[0], 4), 50.0)

    fooled = Fooled.from_config({**encoder.get_config(), "generator": None})
    fooled.build()
    fooled.preconditioner.assign(encoder.preconditioner)
    alone = project(generator, fooled, made, num_restarts=1, num_steps=40)
    rescued = project(generator, fooled, made, num_restarts=4, num_steps=40)
    assert np.mean(rescued) < 0.5 * np.mean(alone)


def test_an_image_is_projected_the_same_whatever_its_neighbours(generator, encoder, made):
    purifier = DefenseGAN(generator, encoder, num_steps=4, chunk_size=16)
    whole = purifier(made)
    np.testing.assert_allclose(purifier(made[5:6]), whole[5:6], atol=1e-4)


def test_fast_without_an_encoder_is_refused(generator):
    with pytest.raises(ValueError, match="`projector='fast'` needs the `encoder`"):
        DefenseGAN(generator, projector="fast")
    with pytest.raises(ValueError, match="`projector` must be one of .* Received: projector='x'"):
        DefenseGAN(generator, projector="x")


def test_a_time_budget_is_kept_and_said(generator, encoder, made, caplog):
    caplog.set_level("INFO", logger="absl")
    purifier = DefenseGAN(generator, encoder, time_budget_ms=1e6)
    purifier.build()
    assert (purifier.num_steps, purifier.num_restarts) == (200, 10)
    assert "num_steps=200, num_restarts=10" in caplog.text
    saved = DefenseGAN.from_config(purifier.get_config())
    assert (saved.num_steps, saved.num_restarts, saved.time_budget_ms) == (200, 10, None)
    assert purifier(made).shape == made.shape


def test_a_time_budget_binds_once_even_inside_a_graph(generator, encoder, made, monkeypatch):
    purifier = DefenseGAN(generator, encoder, time_budget_ms=100)
    clock, calls = [0.0], []

    def answer(images):
        assert tf.executing_eagerly()
        calls.append(purifier.num_steps)
        clock[0] += 0.004 * purifier.num_steps  # 40 ms for ten steps, 100 for 25

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(DefenseGAN, "call", lambda self, images, training=False: answer(images))

    @tf.function
    def build_inside(images):
        purifier.build()
        return images

    build_inside(made)
    # 75 ms of the budget are the projection's: 15 steps take 60, 25 take 100.
    assert (purifier.num_steps, purifier.num_restarts) == (15, 2)
    assert max(calls) == 25
    count = len(calls)
    purifier.build()
    assert len(calls) == count


def test_a_time_budget_excludes_steps(generator, encoder):
    with pytest.raises(ValueError, match="`time_budget_ms` chooses `num_steps`"):
        DefenseGAN(generator, encoder, time_budget_ms=100, num_steps=5)


def test_a_time_budget_that_nothing_fits_is_refused(generator, encoder):
    with pytest.raises(ValueError, match="`time_budget_ms` must leave room for two steps"):
        DefenseGAN(generator, encoder, time_budget_ms=1e-6).build()
    for budget in (float("nan"), float("inf"), 0, -1):
        with pytest.raises(ValueError, match="`time_budget_ms` must be > 0 and finite"):
            DefenseGAN(generator, encoder, time_budget_ms=budget)
    with pytest.raises(ValueError, match="`time_budget_ms` needs `projector='fast'`"):
        DefenseGAN(generator, time_budget_ms=100)
