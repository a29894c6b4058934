import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfpurify.evaluation.checks import run_checks
from tfpurify.evaluation.intervals import wilson_interval
from tfpurify.evaluation.rates import evaluate

SHAPE = (2, 2, 1)


def classifier(images):
    """Class 0 below a mean of 0.5, class 1 above."""
    mean = tf.reduce_mean(images, axis=(1, 2, 3))
    return tf.stack([0.5 - mean, mean - 0.5], axis=1)


def batch(values, labels):
    """Flat images, one per value."""
    images = np.broadcast_to(np.reshape(values, (-1, 1, 1, 1)), (len(values), *SHAPE))
    return images.astype("float32"), np.array(labels)


# Right, right, right, wrong without an attack.
BATCH = batch([0.4, 0.1, 0.6, 0.9], [0, 0, 1, 0])


def brighten(images, labels):
    return tf.minimum(images + 0.2, 1.0)


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe (1998), Statistics in Medicine 17, Table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_matches_published_values(successes, n, low, high):
    np.testing.assert_allclose(wilson_interval(successes, n), (low, high), atol=5e-5)


def test_wilson_interval_is_symmetric_and_ends_at_sure_outcomes():
    low, high = wilson_interval(3, 10)
    np.testing.assert_allclose(wilson_interval(7, 10), (1 - high, 1 - low))
    assert wilson_interval(0, 7)[0] == 0.0
    assert wilson_interval(7, 7)[1] == 1.0
    assert wilson_interval(3, 10, confidence=0.5)[0] > low


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0), "`n` must be >= 1. Received: n=0"),
        ((5, 4), "`successes` must be in"),
        ((-1, 4), "`successes` must be in"),
        ((1, 4, 1.0), "`confidence` must be in"),
    ],
)
def test_wilson_interval_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        wilson_interval(*arguments)


def test_clean_errors_never_count_as_successes():
    result = evaluate([BATCH], classifier, attack=brighten, epsilon=0.2)
    # 0.4 crosses over; 0.9 was wrong before and stays so.
    assert result["n"] == 4
    assert result["clean_accuracy"] == 0.75
    assert result["purified_clean_accuracy"] is None
    assert result["correct_without_attack"] == 3
    assert result["robust_accuracy"] == 0.5
    assert result["attack_success_rate"] == 1 / 3
    low, high = wilson_interval(1, 3)
    assert (result["attack_success_rate_low"], result["attack_success_rate_high"]) == (low, high)
    assert result["max_perturbation"] == pytest.approx(0.2)
    assert result["epsilon"] == 0.2
    assert result["wall_seconds"] > 0


def test_an_attack_that_repairs_an_error_gains_nothing():
    result = evaluate([BATCH], classifier, attack=lambda x, y: x - 0.05, epsilon=0.2)
    assert result["attack_success_rate"] == 0.0
    result = evaluate([batch([0.55], [0])], classifier, attack=lambda x, y: x - 0.1, epsilon=0.2)
    assert result["robust_accuracy"] == 1.0
    assert result["attack_success_rate"] is None


def test_a_targeted_success_is_the_target_class_where_it_was_not_before():
    # Under attack 0.4 becomes class 1; 0.1 stays; label 1 never counts, nor does the clean error.
    result = evaluate([BATCH], classifier, attack=brighten, epsilon=0.2, target_class=1)
    assert result["attack_success_rate"] == 1 / 2
    low, high = wilson_interval(1, 2)
    assert (result["attack_success_rate_low"], result["attack_success_rate_high"]) == (low, high)
    assert result["robust_accuracy"] == 0.5
    assert result["correct_without_attack"] == 3


def test_an_error_that_is_not_the_target_class_is_no_targeted_success():
    def three_classes(images):
        mean = tf.reduce_mean(images, axis=(1, 2, 3))
        return 2.0 * tf.one_hot(tf.cast(mean * 3, tf.int32), 3)

    data = batch([0.1, 0.2, 0.5], [0, 0, 1])  # under attack classes 1, 1 and 2
    attack = {"attack": lambda x, y: x + 0.25, "epsilon": 0.3}
    assert evaluate([data], three_classes, **attack)["attack_success_rate"] == 1.0
    rates = [
        evaluate([data], three_classes, **attack, target_class=c)["attack_success_rate"]
        for c in range(3)
    ]
    assert rates == [0.0, 1.0, 1 / 3]


def test_a_targeted_rate_without_another_label_is_undefined():
    result = evaluate([batch([0.1], [0])], classifier, None, brighten, 0.2, target_class=0)
    assert result["attack_success_rate"] is None and result["attack_success_rate_low"] is None


@pytest.mark.parametrize("target_class", [-1, 2, 1.0])
def test_a_bad_target_class_is_refused(target_class):
    with pytest.raises(ValueError, match="`target_class` must be"):
        evaluate([BATCH], classifier, attack=brighten, epsilon=0.2, target_class=target_class)


def test_with_a_purifier_the_target_is_both_together():
    def darken(images):
        return tf.maximum(images - 0.2, 0.0)

    result = evaluate([BATCH], classifier, darken, brighten, epsilon=0.2)
    # Darkened, 0.6 is lost before any attack: it cannot be a success.
    assert result["clean_accuracy"] == 0.75
    assert result["purified_clean_accuracy"] == 0.5
    assert result["correct_without_attack"] == 2
    # The purifier undoes the attack: 0.4, 0.1 and 0.6 are right again, 0.9 clips to 1 and 0.8.
    assert result["robust_accuracy"] == 0.75
    assert result["attack_success_rate"] == 0.0


def test_without_an_attack_there_is_no_success_rate():
    result = evaluate([BATCH], classifier)
    assert result["robust_accuracy"] is None
    assert result["attack_success_rate"] is None
    assert result["max_perturbation"] is None


def test_batches_are_streamed_once_and_the_last_may_be_partial():
    open_batches = []

    def stream():
        for start in (0, 3):
            open_batches.append(start)
            yield tuple(part[start : start + 3] for part in BATCH)

    result = evaluate(stream(), classifier, attack=brighten, epsilon=0.2)
    assert open_batches == [0, 3]
    whole = evaluate([BATCH], classifier, attack=brighten, epsilon=0.2)
    assert {**result, "wall_seconds": 0} == {**whole, "wall_seconds": 0}


def test_keras_models_are_compiled_and_run_in_inference():
    modes = []

    @keras.saving.register_keras_serializable("tests")
    class Mean(keras.Model):
        def call(self, images, training=None):
            modes.append((training, tf.inside_function()))
            return classifier(images)

    dataset = tf.data.Dataset.from_tensor_slices(BATCH).batch(3)
    result = evaluate(dataset, Mean(), attack=brighten, epsilon=0.2)
    assert result["attack_success_rate"] == 1 / 3
    assert set(modes) == {(False, True)}


def test_no_images_is_an_error():
    with pytest.raises(ValueError, match="`batches` must hold at least one image"):
        evaluate([], classifier)


def test_nothing_right_without_the_attack_gives_no_rate_and_a_flag():
    result = evaluate([batch([0.9], [0])], classifier, attack=brighten, epsilon=0.2)
    assert result["attack_success_rate"] is None
    assert result["attack_success_rate_low"] is None
    assert result["robust_accuracy"] == 0.0
    assert any(flag.startswith("no_success_rate") for flag in run_checks(result))


@pytest.mark.parametrize(
    ("kind", "attack"),
    [("clean", None), ("adversarial", brighten)],
)
def test_logits_that_are_not_finite_are_an_error(kind, attack):
    above = 0.85 if kind == "clean" else 0.95

    def broken(images):
        return tf.where(images[:, :1, 0, 0] > above, np.nan, classifier(images))

    with pytest.raises(ValueError, match=f"NaN or infinity for 1 of 4 {kind} images"):
        evaluate([BATCH], broken, attack=attack, epsilon=0.2)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (lambda x, y: tf.minimum(x + 0.21, 1.0), r"within epsilon=0.2 .* max \|x' - x\| = 0.21"),
        (lambda x, y: x + 0.2, r"adversarial images must lie in \[0, 1\]"),
        (lambda x, y: x * np.nan, r"adversarial images must lie in \[0, 1\]"),
        (lambda x, y: x[:1], "adversarial images must have the images' shape"),
        (lambda x, y: tf.cast(x, "float64"), "dtype float32. Received: .* dtype=float64"),
    ],
    ids=["epsilon", "range", "nan", "shape", "dtype"],
)
def test_adversarial_images_are_held_to_their_contract(attack, message):
    with pytest.raises(ValueError, match=message):
        evaluate([BATCH], classifier, attack=attack, epsilon=0.2)


def test_an_attack_brings_its_own_epsilon():
    class Brighten:
        epsilon = 0.2

        def __call__(self, images, labels):
            return brighten(images, labels)

    whole = evaluate([BATCH], classifier, attack=brighten, epsilon=0.2)
    result = evaluate([BATCH], classifier, attack=Brighten())
    assert {**result, "wall_seconds": 0} == {**whole, "wall_seconds": 0}
    assert evaluate([BATCH], classifier, attack=Brighten(), epsilon=0.5)["epsilon"] == 0.5


@pytest.mark.parametrize("epsilon", [None, 0.0, 1.1])
def test_an_attack_needs_an_epsilon(epsilon):
    with pytest.raises(ValueError, match=f"`epsilon` must be in .* Received: epsilon={epsilon}"):
        evaluate([BATCH], classifier, attack=brighten, epsilon=epsilon)


def test_a_purifier_that_leaves_the_range_is_an_error():
    with pytest.raises(ValueError, match=r"purified clean images must lie in \[0, 1\]"):
        evaluate([BATCH], classifier, lambda images: images * 2 - 1)


@pytest.mark.parametrize(
    ("bad_batch", "message"),
    [
        ((BATCH[0] * 2, BATCH[1]), "images"),
        ((BATCH[0][0], BATCH[1]), "images"),
        ((BATCH[0], BATCH[1][:2]), "labels must be 4 integers"),
        ((BATCH[0], BATCH[1] * 1.0), "Received: .* dtype=float64"),
        ((BATCH[0], BATCH[1] + 2), r"labels must be in \[0, 2\)"),
    ],
    ids=["range", "rank", "count", "dtype", "class"],
)
def test_bad_batches_are_refused(bad_batch, message):
    with pytest.raises(ValueError, match=message):
        evaluate([bad_batch], classifier)


class Target:
    def __init__(self, gradient_mode="exact", purifier=None):
        self.gradient_mode = gradient_mode
        self.purifier = purifier

    def __call__(self, images):
        return classifier(images)


def test_a_soft_target_is_never_evaluated():
    with pytest.raises(ValueError, match="`classifier` must not mix or rank candidates"):
        evaluate([BATCH], Target("soft", brighten))
    with pytest.raises(ValueError, match="`purifier` must not mix or rank candidates"):
        evaluate([BATCH], classifier, Target("soft"))


def test_a_purified_classifier_is_not_a_bare_one():
    with pytest.raises(ValueError, match="`classifier` must be the bare classifier"):
        evaluate([BATCH], Target("exact", brighten))


def test_evaluation_holds_a_few_batches_however_many_there_are():
    seen, alive = [], []

    def batches(count):
        for _ in range(count):
            images, labels = batch([0.2, 0.8], [0, 1])
            seen.append(weakref.ref(images))
            alive.append(sum(reference() is not None for reference in seen))
            yield images, labels

    found = evaluate(batches(40), classifier, attack=lambda images, _: images, epsilon=0.1)
    assert found["n"] == 80
    assert max(alive) <= 3


def test_a_mean_squared_bound_is_another_norm():
    images, labels = batch([0.4], [0])

    def one_pixel(images, labels):
        changed = np.array(images)
        changed[:, 0, 0] += 0.4
        return changed

    result = evaluate(
        [(images, labels)], classifier, attack=one_pixel, epsilon=0.05, norm="mean_squared"
    )
    assert result["max_perturbation"] == pytest.approx(0.16 / 4)
    with pytest.raises(ValueError, match="must stay within epsilon=0.05"):
        evaluate([(images, labels)], classifier, attack=one_pixel, epsilon=0.05)
    with pytest.raises(ValueError, match="`norm` must be one of"):
        evaluate([(images, labels)], classifier, attack=one_pixel, epsilon=0.05, norm="l1")
