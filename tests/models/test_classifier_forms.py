"""What people have as a classifier, in every form: adapted, defended, attacked, saved, served."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfpurify import as_classifier, evaluate, export_purified_classifier
from tfpurify.attacks.pgd import PGD
from tfpurify.evaluation.checks import dead_share
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.purifiers.puvae import PuVAE

SIZES = [((32, 32, 3), 5), ((64, 48, 1), 3)]


def stem(shape, classes, scale=1.0):
    """Returns layers from images in [0, 1] to logits, the same in every call."""
    pool = layers.AveragePooling2D(8)
    dense = layers.Dense(classes)
    features = (shape[0] // 8) * (shape[1] // 8) * shape[2]
    dense.build((None, features))
    kernel = np.random.default_rng(0).normal(size=(features, classes)) * 4.0 * scale
    dense.set_weights([kernel, -0.5 * kernel.sum(axis=0)])
    return lambda images: dense(layers.Flatten()(pool(images)))


def functional(shape, classes, before=lambda x: x, after=lambda x: x, name="net"):
    images = keras.Input(shape)
    return keras.Model(images, after(stem(shape, classes)(before(images))), name=name)


@keras.saving.register_keras_serializable("their_package")
class Subclass(keras.Model):
    """A class of the user's own, with a `training` argument."""

    def __init__(self, shape, classes):
        super().__init__()
        self.net = functional(shape, classes)
        self.dropout = layers.Dropout(0.9)

    def call(self, images, training=False):
        return self.net(self.dropout(images, training=training))


class PlainSubclass(keras.Model):
    """A class of the user's own, without."""

    def __init__(self, shape, classes):
        super().__init__()
        self.net = functional(shape, classes)

    def call(self, images):
        return self.net(images)


def saved_module(shape, classes, path):
    module = tf.Module()
    module.net = functional(shape, classes)

    @tf.function(input_signature=[tf.TensorSpec((None, *shape), tf.float32, name="pictures")])
    def predict(pictures):
        return {"scores": module.net(pictures)}

    tf.saved_model.save(module, str(path), signatures={"serving_default": predict})
    return str(path)


def exported(shape, classes, path):
    functional(shape, classes).export(str(path), verbose=False)
    return str(path)


def filed(shape, classes, path):
    functional(shape, classes).save(path)
    return str(path)


def two_outputs(shape, classes):
    net = functional(shape, classes)
    return lambda images: {"logits": net(images), "features": images[:, 0, 0]}


# Form -> (function of shape, classes and a folder; arguments of `as_classifier`).
FORMS = {
    "functional": (lambda s, c, _: functional(s, c), {}),
    "sequential with softmax": (
        lambda s, c, _: keras.Sequential([functional(s, c), layers.Softmax()]),
        {"outputs": "probabilities"},
    ),
    "rescaling inside": (
        lambda s, c, _: functional(s, c, layers.Rescaling(1 / 255)),
        {"image_range": (0, 255)},
    ),
    "normalization inside": (
        lambda s, c, _: functional(
            s, c, lambda x: layers.Rescaling(2.0)(layers.Normalization(mean=0.0, variance=4.0)(x))
        ),
        {},
    ),
    "x * 2 - 1 inside": (lambda s, c, _: functional(s, c, lambda x: (x * 2 - 1) / 2 + 0.5), {}),
    "keras.applications inside": (
        lambda s, c, _: functional(
            s, c, lambda x: keras.applications.mobilenet_v2.preprocess_input(x) / 2 + 0.5
        ),
        {"image_range": (0, 255)},
    ),
    "subclass with training": (lambda s, c, _: Subclass(s, c), {}),
    "subclass without": (lambda s, c, _: PlainSubclass(s, c), {}),
    ".keras": (lambda s, c, folder: filed(s, c, folder / "net.keras"), {}),
    ".h5": (lambda s, c, folder: filed(s, c, folder / "net.h5"), {}),
    "keras export": (lambda s, c, folder: exported(s, c, folder / "exported"), {}),
    "tf.saved_model": (lambda s, c, folder: saved_module(s, c, folder / "saved"), {}),
    "callable": (lambda s, c, _: functional(s, c).__call__, {}),
    "dictionary": (lambda s, c, _: two_outputs(s, c), {"output_name": "logits"}),
    "float16": (lambda s, c, _: functional(s, c, after=lambda y: keras.ops.cast(y, "float16")), {}),
    "mean and deviation": (
        lambda s, c, _: functional(s, c, lambda x: x * 0.25 + 0.5),
        {"mean": (0.5,), "std": (0.25,)},
    ),
    "auto": (lambda s, c, _: functional(s, c, after=layers.Softmax()), {"outputs": "auto"}),
}
QUICK = ("sequential with softmax",)


@pytest.fixture(scope="module")
def adapted_by_form(tmp_path_factory):
    found = {}

    def adapt(form, size):
        if (form, size) not in found:
            (shape, classes), (make, arguments) = size, FORMS[form]
            model = make(shape, classes, tmp_path_factory.mktemp("form"))
            found[form, size] = as_classifier(model, image_shape=shape, **arguments)
        return found[form, size]

    return adapt


@pytest.fixture
def narrow(monkeypatch):
    """PuVAEs with few hidden units, which decide nothing about forms and most of the time."""
    monkeypatch.setattr(PuVAE, "hidden_units", 16)


def batch_of(shape, classes, n=24):
    images = np.random.default_rng(1).uniform(size=(n, *shape)).astype(np.float32)
    labels = np.asarray(functional(shape, classes)(images)).argmax(axis=1)
    return images, labels


@pytest.mark.parametrize("size", SIZES, ids=["colour", "grey"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_logits_and_a_gradient(form, size, adapted_by_form):
    shape, classes = size
    adapted = adapted_by_form(form, size)
    images, labels = batch_of(shape, classes)
    logits = adapted(images)
    assert logits.dtype == tf.float32 and logits.shape == (len(images), classes)
    expected = functional(shape, classes)(images)
    tolerance = 0.02 if form == "float16" else 1e-3
    # A softmax that was taken off leaves the logits; one that stays, their logarithms.
    np.testing.assert_allclose(
        tf.nn.log_softmax(logits), tf.nn.log_softmax(expected), atol=tolerance, rtol=1e-3
    )
    attack = PGD(adapted, 0.08, 5)
    assert dead_share(attack.gradient_norms(tf.constant(images), tf.constant(labels))) == 0
    rates = evaluate([(images, labels)], adapted, attack=attack)
    assert rates["clean_accuracy"] == 1.0 or form == "float16"
    assert rates["attack_success_rate"] > 0.9


@pytest.mark.parametrize("size", SIZES, ids=["colour", "grey"])
@pytest.mark.parametrize(
    "form", [f if f in QUICK else pytest.param(f, marks=pytest.mark.slow) for f in FORMS]
)
def test_every_form_is_defended_attacked_saved_and_served(
    form, size, adapted_by_form, tmp_path, narrow
):
    shape, classes = size
    classifier = adapted_by_form(form, size)
    images, labels = batch_of(shape, classes, 8)
    purifier = PuVAE(shape, classes, latent_dim=4, classifier=classifier)
    purifier.build()
    purifier.compile("adam")
    purifier.fit(images, labels, batch_size=8, verbose=0)
    target = PurifiedClassifier(purifier, classifier, "soft")
    rates = evaluate([(images, labels)], classifier, purifier=purifier, attack=PGD(target, 0.1, 2))
    assert rates["n"] == 8 and rates["dead_gradient"] == 0
    purifier.save(tmp_path / "purifier.keras")
    # Its own weights, and nothing of the classifier's or the optimizer's: four bytes each.
    without = PuVAE.from_config(purifier.get_config())
    without.build()
    without.set_weights(purifier.get_weights())
    without.save(tmp_path / "bare.keras")
    count = sum(int(tf.size(weight)) for weight in purifier.weights)
    assert (tmp_path / "bare.keras").stat().st_size < 4 * count + 200_000
    loaded = keras.saving.load_model(tmp_path / "purifier.keras", compile=False)
    np.testing.assert_allclose(loaded(images), purifier(images), atol=1e-6)
    assert loaded.classifier is None
    assert loaded.references["classifier"]["sha256"] == classifier.reference["sha256"]
    with pytest.raises(ValueError, match="load .* and set `model.classifier`"):
        loaded.compute_losses(images, labels, 0.0)
    purified = PurifiedClassifier(loaded, classifier)
    purified.build()
    bundle = tf.saved_model.load(str(export_purified_classifier(purified, tmp_path / "bundle")))
    answer = bundle.signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(answer["logits"], purified(images), atol=1e-3)


@pytest.mark.parametrize("factor", [1.0, 10.0])
def test_one_sigmoid_becomes_two_logits(factor):
    shape = (32, 32, 3)
    net = functional(shape, 1, after=lambda y: layers.Activation("sigmoid")(factor * y))
    adapted = as_classifier(net, outputs="probabilities")
    images, _ = batch_of(shape, 5)
    logits = adapted(images)
    assert logits.shape == (len(images), 2)
    np.testing.assert_allclose(
        logits[:, 1] - logits[:, 0], factor * functional(shape, 1)(images)[:, 0], rtol=1e-3
    )


def test_bgr_order_is_undone():
    shape = (32, 32, 3)
    flipped = functional(shape, 5, lambda x: keras.ops.flip(x, axis=-1))
    images, _ = batch_of(shape, 5)
    adapted = as_classifier(flipped, channels="bgr")
    np.testing.assert_allclose(adapted(images), functional(shape, 5)(images), atol=1e-4)


@pytest.mark.parametrize(
    ("before", "right"),
    [
        (layers.Rescaling(1 / 255), r"image_range=\(0, 255\)"),
        (lambda x: (x + 1) / 2, r"image_range=\(-1, 1\)"),
        (lambda x: keras.ops.flip(x, axis=-1), "channels='bgr'"),
    ],
)
def test_a_wrong_scale_is_named(before, right):
    shape = (32, 32, 3)
    images, labels = batch_of(shape, 5, 300)
    with pytest.raises(ValueError, match=right):
        as_classifier(functional(shape, 5, before), images=images, labels=labels)


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (lambda: functional((32, 32, 3), 5, after=layers.Softmax()), {}, "outputs='probabilities'"),
        (lambda: functional((32, 32, 3), 5), {"outputs": "probabilities"}, "outputs='logits'"),
        (lambda: functional((32, 32, 3), 5), {"num_classes": 4}, "must be the model's 5"),
        (lambda: two_outputs((32, 32, 3), 5), {"image_shape": (32, 32, 3)}, "`output_name`"),
        (lambda: two_outputs((32, 32, 3), 5), {}, "`image_shape` is needed"),
        (lambda: functional((32, 32, 3), 5), {"image_shape": (28, 28, 1)}, "--image_size"),
        (lambda: "net.onnx", {}, "exists"),
        (lambda: 7, {}, "must be a Keras model"),
        (
            lambda: lambda x: np.asarray(x)[:, 0, 0],
            {"image_shape": (8, 8, 3)},
            "of TensorFlow oper",
        ),
        (
            lambda: lambda x: tf.cast(tf.cast(255 * x, tf.uint8), tf.float32)[:, 0, 0],
            {"image_shape": (8, 8, 3)},
            "must be differentiable",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, arguments, message):
    with pytest.raises((ValueError, TypeError, FileNotFoundError), match=message):
        as_classifier(make(), **arguments)


def test_a_file_with_code_needs_trust(tmp_path):
    net = functional((32, 32, 3), 5, layers.Lambda(lambda x: x * 1.0, name="theirs"))
    net.save(tmp_path / "net.keras")
    with pytest.raises(ValueError, match="holds code .*--trust_classifier"):
        as_classifier(tmp_path / "net.keras")
    images, _ = batch_of((32, 32, 3), 5)
    adapted = as_classifier(tmp_path / "net.keras", trust=True)
    np.testing.assert_allclose(adapted(images), net(images), atol=1e-4)


def test_an_over_confident_softmax_is_attacked_as_its_logits_are():
    shape = (32, 32, 3)
    net = functional(shape, 5, after=lambda y: layers.Softmax()(100.0 * y))
    images, labels = batch_of(shape, 5)
    assert np.asarray(net(images)).max(axis=1).min() > 0.99
    rates = evaluate(
        [(images, labels)],
        adapted := as_classifier(net, outputs="probabilities"),
        attack=PGD(adapted, 0.08, 20),
    )
    assert rates["attack_success_rate"] == 1.0 and rates["dead_gradient"] == 0


@pytest.mark.parametrize("outputs", ["auto", "probabilities"])
def test_one_probability_behind_a_reshape_is_no_logit(outputs):
    shape = (32, 32, 3)
    net = functional(
        shape, 1, after=lambda y: layers.Reshape((1,))(layers.Activation("sigmoid")(y))
    )
    images, _ = batch_of(shape, 5)
    labels = np.asarray(net(images))[:, 0] > 0.5
    adapted = as_classifier(net, outputs=outputs, images=images, labels=labels.astype(int))
    np.testing.assert_array_equal(np.asarray(adapted(images)).argmax(axis=1), labels)
    with pytest.raises(ValueError, match="outputs='probabilities'"):
        as_classifier(net)


def test_one_logit_is_cut_at_zero_when_its_scale_is_checked():
    shape = (32, 32, 3)
    net = functional(shape, 1)
    images, _ = batch_of(shape, 5, 300)
    labels = (np.asarray(net(images))[:, 0] > 0).astype(int)
    adapted = as_classifier(net, images=images, labels=labels)
    np.testing.assert_array_equal(np.asarray(adapted(images)).argmax(axis=1), labels)


def test_what_is_adapted_takes_no_other_scale():
    adapted = as_classifier(functional((32, 32, 3), 5))
    assert as_classifier(adapted) is adapted
    with pytest.raises(ValueError, match="already"):
        as_classifier(adapted, image_range=(0, 255))
