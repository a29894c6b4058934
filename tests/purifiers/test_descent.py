"""The gradient through a whole descent: what it equals, and what it keeps in memory."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.purifiers.defensegan import DefenseGAN
from tfpurify.purifiers.latent_encoder import LatentEncoder

PROJECTORS = pytest.mark.parametrize("projector", ["reference", "fast"])


@pytest.fixture(scope="module")
def images(generator):
    """Three images of noise, nearest to which is the encoder's start, and two of random starts."""
    noise = tf.random.stateless_uniform((3, 28, 28, 1), seed=[8, 8])
    starts = DefenseGAN(generator, num_restarts=2).initial_z()
    return tf.concat([noise, 0.02 + 0.95 * generator(starts)], axis=0)


@pytest.fixture(scope="module")
def make_purifier(generator):
    """Function projector, num_steps -> DefenseGAN, built."""
    keras.utils.set_random_seed(5)
    encoder = LatentEncoder((28, 28, 1), 4, filters=(8,), units=16, num_refinements=1)
    encoder.build()
    # So that random starts are chosen beside the encoder's.
    encoder.preconditioner.assign(0.3 * tf.eye(4))

    def make(projector, num_steps):
        # Small steps, so that a difference in rounding does not grow along the descent.
        options = {"num_steps": num_steps, "num_restarts": 3, "step_size": 1.0}
        purifier = DefenseGAN(generator, encoder, projector, **options)
        purifier.build()
        return purifier

    return make


def gradient_of(purify, images):
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(images)
        loss = tf.reduce_sum(tf.sin(40.0 * purify(images)))
    return tape.gradient(loss, images).numpy()


@PROJECTORS
def test_value_and_gradient_are_those_of_the_purifier(make_purifier, images, projector):
    purifier = make_purifier(projector, num_steps=8)
    np.testing.assert_allclose(purifier.differentiable(images), purifier(images), atol=1e-5)
    expected = gradient_of(purifier, images)
    largest = np.abs(expected).max(axis=(1, 2, 3))
    assert np.all(largest > 1e-6)
    found = gradient_of(purifier.differentiable, images)
    assert np.all(np.abs(found - expected).max(axis=(1, 2, 3)) < 1e-2 * largest)


def test_fast_takes_more_than_one_start(make_purifier, images):
    _, errors = make_purifier("fast", num_steps=8).project(images)
    assert len(np.unique(np.argmin(errors, axis=1))) > 1


@PROJECTORS
def test_truncated_goes_back_the_last_steps_alone(make_purifier, images, projector):
    purifier = make_purifier(projector, num_steps=6)

    def through(last_steps):
        return gradient_of(lambda x: purifier.differentiable(x, last_steps), images)

    for last_steps in (1, 3):
        assert np.abs(through(last_steps) - through(6)).max() > 1e-6
    np.testing.assert_array_equal(through(100), through(6))
    if projector == "reference":
        np.testing.assert_allclose(through(6), through(None), rtol=1e-4, atol=1e-7)
    else:  # exact goes back through the encoder's start too
        assert np.abs(through(6) - through(None)).max() > 1e-6


@PROJECTORS
def test_a_long_descent_keeps_its_states_and_no_activations(make_purifier, images, projector):
    purifier = make_purifier(projector, num_steps=8)

    def ranks(purify):
        """Returns the ranks of what the loops of a gradient's graph keep for the way back."""

        @tf.function
        def gradient(images):
            with tf.GradientTape() as tape:
                tape.watch(images)
                purified_images = purify(images)
            return tape.gradient(purified_images, images)

        graph = gradient.get_concrete_function(images).graph
        kept = []
        for function in graph.as_graph_def(add_shapes=True).library.function:
            shapes = {
                node.name: node.attr["_output_shapes"].list.shape for node in function.node_def
            }
            for node in function.node_def:
                if node.op == "TensorListPushBack":
                    source = node.input[1].split(":")[0]
                    kept += [len(shape.dim) for shape in shapes.get(source, [])]
        return kept

    assert max(ranks(purifier)) >= 4
    assert max(ranks(purifier.differentiable)) <= 2
