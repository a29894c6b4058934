"""Each loss against NumPy in float64, its shape errors, and its gradient where formulas break."""

import numpy as np
import pytest
import tensorflow as tf

from tfpurify.models import losses

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(0.01, 0.99, (5, 4, 4, 1))
OTHER_IMAGES = RNG.uniform(0.01, 0.99, (5, 4, 4, 1))
LOGITS = RNG.normal(0, 3, (5, 10))
OTHER_LOGITS = RNG.normal(0, 3, (5, 10))
LABELS = np.array([0, 3, 9, 3, 1])
Z_MEAN = RNG.normal(size=(5, 7))
Z_STDDEV = RNG.uniform(0.1, 2, (5, 7))
SCORES = RNG.normal(0, 3, 5)


def log_softmax(logits):
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def per_image(values, reduce=np.sum):
    return reduce(values, axis=(1, 2, 3))


def margin(logits, labels, kappa, targeted):
    values = []
    for row, label in zip(logits, labels, strict=True):
        difference = row[label] - np.delete(row, label).max()
        values.append(max(-difference if targeted else difference, -kappa))
    return np.array(values)


def float32(*arguments):
    return [tf.constant(a, tf.float32 if a.dtype.kind == "f" else tf.int64) for a in arguments]


CASES = {
    "reconstruction": (
        losses.reconstruction_loss,
        (IMAGES, OTHER_IMAGES),
        {},
        -per_image(IMAGES * np.log(OTHER_IMAGES) + (1 - IMAGES) * np.log(1 - OTHER_IMAGES)),
    ),
    "kl": (
        losses.kl_loss,
        (Z_MEAN, Z_STDDEV),
        {},
        0.5 * np.sum(Z_MEAN**2 + Z_STDDEV**2 - np.log(Z_STDDEV**2) - 1, axis=1),
    ),
    "classification": (
        losses.classification_loss,
        (LABELS, LOGITS),
        {},
        -log_softmax(LOGITS)[np.arange(5), LABELS],
    ),
    "distillation": (
        losses.distillation_loss,
        (LOGITS, OTHER_LOGITS),
        {},
        -np.sum(np.exp(log_softmax(LOGITS)) * log_softmax(OTHER_LOGITS), axis=1),
    ),
    **{
        f"margin, kappa {kappa}, targeted {targeted}": (
            losses.margin_loss,
            (LOGITS, LABELS),
            {"kappa": kappa, "targeted": targeted},
            margin(LOGITS, LABELS, kappa, targeted),
        )
        for kappa in (0.0, 2.0, 100.0)
        for targeted in (False, True)
    },
    **{
        f"cross entropy attack, targeted {targeted}": (
            losses.cross_entropy_attack_loss,
            (LOGITS, LABELS),
            {"targeted": targeted},
            (-1 if targeted else 1) * log_softmax(LOGITS)[np.arange(5), LABELS],
        )
        for targeted in (False, True)
    },
    **{
        f"hinge, bound {bound}": (
            losses.hinge_loss,
            (IMAGES - 0.5,),
            {"bound": bound},
            np.maximum(0, np.sqrt(per_image((IMAGES - 0.5) ** 2)) - bound),
        )
        for bound in (0.0, 1.1)
    },
    "log, real": (losses.log_loss, (SCORES,), {"is_real": True}, np.log1p(np.exp(-SCORES))),
    "log, fake": (losses.log_loss, (SCORES,), {"is_real": False}, np.log1p(np.exp(SCORES))),
    "squares, real": (losses.least_squares_loss, (SCORES,), {"is_real": True}, (SCORES - 1) ** 2),
    "squares, fake": (losses.least_squares_loss, (SCORES,), {"is_real": False}, SCORES**2),
    "wasserstein, real": (losses.wasserstein_loss, (SCORES,), {"is_real": True}, -SCORES),
    "wasserstein, fake": (losses.wasserstein_loss, (SCORES,), {"is_real": False}, SCORES),
    "gradient penalty": (
        losses.gradient_penalty,
        (IMAGES,),
        {},
        (np.sqrt(per_image(IMAGES**2)) - 1) ** 2,
    ),
    "projection": (
        losses.projection_error,
        (IMAGES, OTHER_IMAGES),
        {},
        per_image((IMAGES - OTHER_IMAGES) ** 2, np.mean),
    ),
}


@pytest.mark.parametrize(
    ("loss", "arguments", "options", "expected"), CASES.values(), ids=CASES.keys()
)
def test_equals_numpy_one_value_for_each_example(loss, arguments, options, expected):
    values = loss(*float32(*arguments), **options)
    assert values.shape == (5,)
    np.testing.assert_allclose(values, expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.reconstruction_loss(tf.zeros((2, 4, 4, 1)), tf.zeros((2, 4, 4, 3))),
            r"`images` and `reconstructions` must have the same shape. "
            r"Received: images \(2, 4, 4, 1\), reconstructions \(2, 4, 4, 3\)",
        ),
        (
            lambda: losses.projection_error(tf.zeros((2, 4, 4, 1)), tf.zeros((2, 4, 4))),
            r"`images` and `reconstructions` must have the same shape",
        ),
        (
            lambda: losses.kl_loss(tf.zeros((2, 3)), tf.zeros((2, 4))),
            r"`z_mean` and `z_stddev` must have the same shape",
        ),
        (
            lambda: losses.kl_loss(tf.zeros(2), tf.zeros(2)),
            r"`z_mean` must have rank 2. Received: shape \(2,\)",
        ),
        (
            lambda: losses.classification_loss(tf.zeros((2, 10)), tf.zeros((2, 10))),
            r"`labels` must have rank 1. Received: shape \(2, 10\)",
        ),
        (
            lambda: losses.classification_loss(tf.zeros(2, tf.int64), tf.zeros(2)),
            r"`logits` must have rank 2",
        ),
        (
            lambda: losses.distillation_loss(tf.zeros((2, 10)), tf.zeros((2, 9))),
            r"`target_logits` and `surrogate_logits` must have the same shape",
        ),
        (
            lambda: losses.margin_loss(tf.zeros(10), tf.zeros(1, tf.int64)),
            r"`logits` must have rank 2",
        ),
        (
            lambda: losses.margin_loss(tf.zeros((2, 10)), tf.zeros((2, 10), tf.int64)),
            r"`labels` must have rank 1",
        ),
        (
            lambda: losses.margin_loss(tf.zeros((2, 10)), tf.zeros(2, tf.int64), kappa=-1.0),
            r"`kappa` must be >= 0. Received: kappa=-1.0",
        ),
        (lambda: losses.hinge_loss(tf.zeros((2, 4)), 1.0), r"`perturbation` must have rank 4"),
        (lambda: losses.log_loss(tf.zeros((2, 1)), True), r"`logits` must have rank 1"),
        (lambda: losses.least_squares_loss(tf.zeros((2, 1)), True), r"`logits` must have rank 1"),
        (lambda: losses.wasserstein_loss(tf.zeros((2, 1)), True), r"`scores` must have rank 1"),
        (lambda: losses.gradient_penalty(tf.zeros((2, 4))), r"`gradients` must have rank 4"),
    ],
)
def test_wrong_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


BLACK, WHITE = tf.zeros((2, 4, 4, 1)), tf.ones((2, 4, 4, 1))
HUGE = tf.constant([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]])
FIRST = tf.constant([0, 0])
FAR = tf.constant([1e4, -1e4])

EDGES = {
    "certain and right": (BLACK, lambda x: losses.reconstruction_loss(BLACK, x)),
    "certain and wrong": (BLACK, lambda x: losses.reconstruction_loss(WHITE, x)),
    "certainly white": (WHITE, lambda x: losses.reconstruction_loss(WHITE, x)),
    "wrongly white": (WHITE, lambda x: losses.reconstruction_loss(BLACK, x)),
    "no spread": (tf.zeros((2, 3)), lambda s: losses.kl_loss(tf.zeros((2, 3)), s)),
    "wide spread": (tf.fill((2, 3), 1e4), lambda s: losses.kl_loss(tf.zeros((2, 3)), s)),
    "huge logits": (HUGE, lambda z: losses.classification_loss(FIRST, z)),
    "huge surrogate": (HUGE, lambda z: losses.distillation_loss(tf.zeros((2, 3)), z)),
    "huge both": (HUGE, lambda z: losses.distillation_loss(-HUGE, z)),
    "huge margin": (HUGE, lambda z: losses.margin_loss(z, FIRST)),
    "huge targeted margin": (HUGE, lambda z: losses.margin_loss(z, FIRST, targeted=True)),
    "tied margin": (tf.zeros((2, 3)), lambda z: losses.margin_loss(z, FIRST)),
    "huge attack": (HUGE, lambda z: losses.cross_entropy_attack_loss(z, FIRST)),
    "no perturbation": (BLACK, lambda p: losses.hinge_loss(p, 0.0)),
    "far and real": (FAR, lambda s: losses.log_loss(s, is_real=True)),
    "far and fake": (FAR, lambda s: losses.log_loss(s, is_real=False)),
    "far squares": (FAR, lambda s: losses.least_squares_loss(s, is_real=True)),
    "far scores": (FAR, lambda s: losses.wasserstein_loss(s, is_real=True)),
    "flat critic": (BLACK, losses.gradient_penalty),
    "perfect projection": (BLACK, lambda x: losses.projection_error(BLACK, x)),
}


@pytest.mark.parametrize(("at", "loss"), EDGES.values(), ids=EDGES.keys())
def test_values_and_gradients_are_finite_at_the_edges(at, loss):
    with tf.GradientTape() as tape:
        tape.watch(at)
        values = loss(at)
    assert np.all(np.isfinite(values))
    assert np.all(np.isfinite(tape.gradient(values, at)))


def test_confident_values_keep_their_precision():
    np.testing.assert_allclose(losses.log_loss(FAR, is_real=True), [0.0, 1e4])
    np.testing.assert_allclose(losses.log_loss(FAR, is_real=False), [1e4, 0.0])
    np.testing.assert_allclose(losses.classification_loss(FIRST, HUGE), [0.0, 2e4], rtol=1e-4)
    np.testing.assert_allclose(losses.margin_loss(HUGE, FIRST, kappa=5.0), [1e4, -5.0])
    np.testing.assert_allclose(losses.reconstruction_loss(WHITE, WHITE), [0.0, 0.0], atol=1e-4)


def test_a_saturated_margin_has_no_gradient_and_a_live_one_has():
    logits = tf.constant([[5.0, 0.0, 1.0], [0.0, 5.0, 1.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        values = losses.margin_loss(logits, FIRST)
    np.testing.assert_array_equal(tape.gradient(values, logits), [[1, 0, -1], [0, 0, 0]])


class TestRequireGradient:
    def test_a_live_gradient_passes_unchanged(self):
        gradient = tf.constant([0.0, 2.0])
        np.testing.assert_array_equal(losses.require_gradient(gradient, "a toy"), gradient)

    def test_none_is_refused(self):
        with pytest.raises(ValueError, match="gradient through a toy must exist. Received: None"):
            losses.require_gradient(None, "a toy")

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("is_active", [True, False])
    def test_what_is_not_finite_is_refused(self, value, is_active):
        with pytest.raises(tf.errors.InvalidArgumentError, match="through a toy must be finite"):
            losses.require_gradient(tf.constant([1.0, value]), "a toy", is_active)

    def test_all_zeros_are_refused(self):
        with pytest.raises(tf.errors.InvalidArgumentError, match="through a toy must not vanish"):
            losses.require_gradient(tf.zeros(3), "a toy")

    @pytest.mark.parametrize("is_active", [False, tf.constant(False)])
    def test_all_zeros_pass_where_nothing_is_left_to_gain(self, is_active):
        np.testing.assert_array_equal(losses.require_gradient(tf.zeros(3), "a", is_active), [0] * 3)

    def test_holds_inside_a_graph(self):
        @tf.function
        def checked(gradient, is_active):
            return losses.require_gradient(gradient, "a graph", is_active)

        np.testing.assert_array_equal(checked(tf.ones(2), True), [1, 1])
        np.testing.assert_array_equal(checked(tf.zeros(2), False), [0, 0])
        with pytest.raises(tf.errors.InvalidArgumentError, match="a graph must not vanish"):
            checked(tf.zeros(2), True)
        with pytest.raises(tf.errors.InvalidArgumentError, match="a graph must be finite"):
            checked(tf.constant([np.nan, 1.0]), True)
