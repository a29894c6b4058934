"""PuVAE trains its encoder and decoder alone, and its shared pass equals ten passes."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from tfpurify.models import losses
from tfpurify.purifiers.base import select_nearest
from tfpurify.training.presets import puvae as puvae_preset

WEIGHTS = ("reconstruction_weight", "kl_weight", "classification_weight")


@pytest.fixture
def trainable_puvae(make_puvae, small_classifier):
    def make(**kwargs):
        model = make_puvae(classifier=small_classifier, **kwargs)
        model.compile(keras.optimizers.Adam(1e-3))
        return model

    return make


def only(name):
    return {weight: float(weight == name) for weight in WEIGHTS}


def test_a_step_moves_encoder_and_decoder_and_never_the_classifier(
    trainable_puvae, small_batch, small_classifier, moved
):
    model = trainable_puvae()
    parts = (
        *(model.convolutions, model.features_dense, model.label_dense, model.hidden_dense),
        *(model.mean_head, model.stddev_head, model.decoder),
    )
    parts_moved = moved([weight for part in parts for weight in part.weights])
    classifier_moved = moved(small_classifier.weights)
    model.train_step(small_batch)
    assert all(parts_moved())
    assert len(parts_moved()) == len(model.trainable_variables)
    assert not any(classifier_moved())


def test_the_loss_is_the_weighted_sum_of_its_three_parts(make_puvae, small_batch, small_classifier):
    model = make_puvae(
        classifier=small_classifier,
        reconstruction_weight=2.0,
        kl_weight=30.0,
        classification_weight=0.5,
    )
    images, labels = small_batch
    parts = model.compute_losses(images, labels, noise=0.0)
    reconstructions, z_mean, z_stddev = model.reconstruct(images, labels, 0.0)
    expected = {
        "reconstruction_loss": np.mean(losses.reconstruction_loss(images, reconstructions)),
        "kl_loss": np.mean(losses.kl_loss(z_mean, z_stddev)),
        "classification_loss": np.mean(
            losses.classification_loss(labels, small_classifier(reconstructions))
        ),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(parts[name], value, rtol=1e-5)
    total = 2.0 * expected["reconstruction_loss"] + 30.0 * expected["kl_loss"]
    total += 0.5 * expected["classification_loss"]
    np.testing.assert_allclose(parts["loss"], total, rtol=1e-5)


@pytest.mark.parametrize(
    ("weights", "moves_encoder", "moves_decoder"),
    [
        (dict.fromkeys(WEIGHTS, 0.0), False, False),
        (only("reconstruction_weight"), True, True),
        (only("kl_weight"), True, False),
        (only("classification_weight"), True, True),
    ],
    ids=["none", "reconstruction", "kl", "classification"],
)
def test_each_weight_acts_alone(
    trainable_puvae, small_batch, moved, weights, moves_encoder, moves_decoder
):
    model = trainable_puvae(**weights)
    encoder = moved(model.convolutions.weights + model.mean_head.weights)
    decoder = moved(model.decoder.weights)
    model.train_step(small_batch)
    assert any(encoder()) == moves_encoder
    assert any(decoder()) == moves_decoder


def test_the_classification_weight_warms_up(trainable_puvae, small_batch):
    model = trainable_puvae(
        **only("classification_weight"), classification_warmup_steps=4, training_noise=0.0
    )
    shares = []
    for _ in range(6):
        model.reset_metrics()
        logs = model.train_step(small_batch)
        shares.append(float(logs["loss"] / logs["classification_loss"]))
    np.testing.assert_allclose(shares, [0, 0.25, 0.5, 0.75, 1, 1], rtol=1e-5)


def test_candidates_equal_one_naive_pass_for_each_label(puvae, small_batch):
    images, _ = small_batch
    first_dense = layers.Dense(1024, activation="relu")
    first_dense.build((None, puvae.features_dense.kernel.shape[0] + 10))
    first_dense.set_weights(
        [
            np.concatenate([puvae.features_dense.kernel, puvae.label_dense.kernel]),
            puvae.features_dense.bias.numpy(),
        ]
    )
    naive = []
    for label in range(10):
        one_hot_labels = ops.one_hot([label] * len(images), 10)
        features = ops.concatenate([puvae.convolutions(images), one_hot_labels], axis=1)
        z_mean = puvae.mean_head(puvae.hidden_dense(first_dense(features)))
        naive.append(puvae.decoder(ops.concatenate([z_mean, one_hot_labels], axis=1)))
    naive = ops.stack(naive, axis=1)
    candidates = puvae.candidates(images)
    assert candidates.shape == (4, 10, 8, 8, 1)
    assert np.std(candidates.numpy(), axis=1).max() > 1e-2  # the label does act
    np.testing.assert_allclose(candidates, naive, atol=1e-5)
    np.testing.assert_array_equal(puvae(images), select_nearest(images, candidates))


def test_training_reconstructs_under_the_label_that_it_is_given(puvae, small_batch):
    images, labels = small_batch
    reconstructions, _, _ = puvae.reconstruct(images, labels, noise=0.0)
    expected = puvae.candidates(images).numpy()[np.arange(4), labels]
    np.testing.assert_allclose(reconstructions, expected, atol=1e-5)


def test_one_images_convolutions_serve_all_labels(puvae, small_batch, monkeypatch):
    batches = []
    convolutions = puvae.convolutions

    def counted(images):
        batches.append(len(images))
        return convolutions(images)

    monkeypatch.setattr(puvae, "encode_features", lambda x: puvae.features_dense(counted(x)))
    puvae.candidates(small_batch[0])
    assert batches == [4]


def test_purified_images_keep_shape_dtype_and_range(puvae, small_batch):
    images, _ = small_batch
    for inputs in (images, np.zeros_like(images), np.ones_like(images), images[:1]):
        purified_images = puvae(inputs)
        assert purified_images.shape == inputs.shape
        assert purified_images.dtype == tf.float32
        assert np.all((purified_images >= 0) & (purified_images <= 1))


def test_without_noise_an_image_is_purified_the_same_whatever_its_neighbours(puvae, small_batch):
    images, _ = small_batch
    np.testing.assert_array_equal(puvae(images), puvae(images))
    np.testing.assert_allclose(puvae(images)[2:3], puvae(images[2:3]), atol=1e-6)


def test_seeded_noise_is_repeatable(make_puvae, puvae, small_batch):
    images, _ = small_batch
    noisy = make_puvae(noise_scale=1.0, seed=7)
    np.testing.assert_array_equal(noisy.candidates(images), noisy.candidates(images))
    again = make_puvae(noise_scale=1.0, seed=7)
    np.testing.assert_array_equal(noisy.candidates(images), again.candidates(images))
    other = make_puvae(noise_scale=1.0, seed=8)
    assert np.abs(noisy.candidates(images) - other.candidates(images)).max() > 1e-3
    assert np.abs(noisy.candidates(images) - puvae.candidates(images)).max() > 1e-3
    unseeded = make_puvae(noise_scale=1.0, seed=None)
    assert np.abs(unseeded.candidates(images) - unseeded.candidates(images)).max() > 1e-3


def test_training_noise_changes_with_the_step_and_can_be_switched_off(trainable_puvae, small_batch):
    def losses_of_two_steps(**kwargs):
        model = trainable_puvae(**only("reconstruction_weight"), **kwargs)
        model.optimizer.learning_rate = 0.0
        values = []
        for _ in range(2):
            for metric in model.metrics:
                metric.reset_state()
            values.append(float(model.train_step(small_batch)["loss"]))
        return values

    first, second = losses_of_two_steps()
    assert first != second
    first, second = losses_of_two_steps(training_noise=0.0)
    assert first == second


def test_fit_lowers_the_loss_and_evaluate_measures_purified_accuracy(trainable_puvae, small_batch):
    model = trainable_puvae(classification_weight=1.0)
    history = model.fit(*small_batch, batch_size=4, epochs=15, verbose=0).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    logs = model.evaluate(*small_batch, verbose=0, return_dict=True)
    assert set(logs) == {
        "loss",
        "reconstruction_loss",
        "kl_loss",
        "classification_loss",
        "purified_accuracy",
    }
    assert np.all(np.isfinite(list(logs.values())))
    purified_logits = model.classifier(model(small_batch[0]))
    accuracy = np.mean(np.argmax(purified_logits, axis=1) == small_batch[1])
    np.testing.assert_allclose(logs["purified_accuracy"], accuracy)


def test_training_without_a_classifier_is_refused(make_puvae, small_batch):
    model = make_puvae()
    model.compile(keras.optimizers.Adam())
    with pytest.raises(ValueError, match="needs its source classifier.*Received: classifier=None"):
        model.train_step(small_batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"noise_scale": -0.1}, "`noise_scale` must be >= 0"),
        ({"training_noise": -1.0}, "training_noise=-1.0"),
        ({"input_noise": -1.0}, "input_noise=-1.0"),
        ({"classification_labels": "all"}, "classification_labels='all'"),
    ],
)
def test_bad_arguments_are_refused(make_puvae, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_puvae(**arguments)


def test_bad_images_are_refused(puvae):
    with pytest.raises(ValueError, match=r"`images` must lie in \[0, 1\]"):
        puvae(np.full((1, 8, 8, 1), 2.0, "float32"))
    with pytest.raises(ValueError, match="`images` must have shape"):
        puvae(np.zeros((1, 28, 28, 1), "float32"))


def test_the_default_weights_are_the_presets(make_puvae):
    preset, model = puvae_preset("mnist", {}), make_puvae()
    assert [getattr(model, name) for name in WEIGHTS] == [0.01, 0.01, 0.1]
    assert [preset[name] for name in WEIGHTS] == [0.01, 0.01, 0.1]


@pytest.mark.parametrize("option", [{"input_noise": 0.3}, {"classification_labels": "random"}])
def test_noise_and_random_labels_change_training_alone(trainable_puvae, small_batch, option):
    def loss_and_images(**options):
        model = trainable_puvae(**options)
        logs = model.train_step(small_batch)
        return float(logs["loss"]), trainable_puvae(**options)(small_batch[0])

    plain, plain_images = loss_and_images()
    loss, images = loss_and_images(**option)
    assert loss != plain
    assert loss_and_images(**option)[0] == loss  # drawn from the seed and the step
    np.testing.assert_array_equal(images, plain_images)


def test_the_classifier_sees_reconstructions_under_the_labels_it_is_given(
    make_puvae, small_batch, small_classifier
):
    model = make_puvae(classifier=small_classifier)
    images, labels = small_batch
    others = (np.asarray(labels) + 1) % 10
    parts = model.compute_losses(images, labels, noise=0.0, classified_labels=others)
    seen, _, _ = model.reconstruct(images, others, 0.0)
    expected = np.mean(losses.classification_loss(labels, small_classifier(seen)))
    np.testing.assert_allclose(parts["classification_loss"], expected, rtol=1e-5)
    own, _, _ = model.reconstruct(images, labels, 0.0)
    expected = np.mean(losses.reconstruction_loss(images, own))
    np.testing.assert_allclose(parts["reconstruction_loss"], expected, rtol=1e-5)


def test_batch_statistics_are_learned_in_training_and_fixed_in_purification(
    trainable_puvae, small_batch, moved
):
    model = trainable_puvae(batch_normalization=True)
    statistics = moved(model.non_trainable_variables)
    images, labels = small_batch
    purified = model(images)
    model.test_step(small_batch)
    assert not any(statistics())
    np.testing.assert_allclose(model(images[:1]), purified[:1], atol=1e-5)
    model.train_step(small_batch)
    assert any(statistics())


def test_the_batch_normalised_encoder_survives_a_round_trip(make_puvae, small_batch, tmp_path):
    model = make_puvae(batch_normalization=True)
    model.convolutions.layers[1].moving_mean.assign_add(tf.ones(32))
    model.save(tmp_path / "puvae.keras")
    loaded = keras.models.load_model(tmp_path / "puvae.keras")
    np.testing.assert_allclose(loaded(small_batch[0]), model(small_batch[0]), atol=1e-6)


def test_a_period_is_a_number_of_pixels(make_puvae):
    with pytest.raises(ValueError, match=r"`input_noise_period` must be >= 1.*-1"):
        make_puvae(input_noise_period=-1)
