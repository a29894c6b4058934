"""What the zoo holds after a publication is the trained model, without what it was trained on."""

import json

import keras
import numpy as np
import pytest

from tfpurify.attacks.advgan import AdvGAN
from tfpurify.attacks.distillation import DynamicAdvGAN
from tfpurify.data.specs import get_spec
from tfpurify.models import zoo
from tfpurify.models.classifiers import build_classifier
from tfpurify.purifiers.adversarial_puvae import AdversarialPuVAE
from tfpurify.purifiers.dcgan import DCGAN, Generator
from tfpurify.purifiers.latent_encoder import LatentEncoder
from tfpurify.purifiers.purified_classifier import PurifiedClassifier
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.training import configuration
from tfpurify.training.publishing import inference_model
from trainers import publish

SHAPE = (28, 28, 1)


def new_classifier(name="cnn"):
    return build_classifier(name, get_spec("mnist"))


def new_puvae():
    return PuVAE(SHAPE, latent_dim=2, classifier=new_classifier(), name="purifying_vae")


def new_advgan():
    target = PurifiedClassifier(PuVAE(SHAPE, latent_dim=2), new_classifier(), "soft")
    return AdvGAN(SHAPE, target, epsilon=0.15, width=2)


def new_dynamic_advgan():
    return DynamicAdvGAN(SHAPE, new_classifier("a"), new_classifier(), epsilon=0.1, width=2)


def new_dcgan():
    return DCGAN(SHAPE, latent_dim=3)


def write_run(folder, model, trainer, **config):
    """Writes what a trainer leaves behind."""
    keras.utils.set_random_seed(1)
    model.build()
    rng = np.random.default_rng(0)
    for weight in model.weights:  # statistics of batch normalisation too
        weight.assign(weight + rng.uniform(0.0, 0.02, weight.shape))
    folder.mkdir(parents=True)
    model.save(folder / "model.keras")
    summary = {
        "name": folder.name,
        "trainer": trainer,
        "dataset": "mnist",
        "command": f"python -m trainers.{trainer} --dataset=mnist --output_dir=/somewhere",
        "seed": 4,
        "validation": {"loss": 0.5},
        "wall_seconds": 12.5,
    }
    (folder / "summary.json").write_text(json.dumps(summary))
    config = {
        "source": "embedded",
        **configuration.resolve(trainer, {"dataset": "mnist", **config}),
    }
    (folder / "config.json").write_text(json.dumps(config))
    return model


def publish_run(folder, name=None):
    zoo_dir = folder.parent / "zoo"
    entry = publish.publish({"run": folder, "name": name, "zoo_dir": zoo_dir})
    return entry, zoo.load_preset(name or folder.name, zoo_dir)


@pytest.mark.parametrize(
    ("make", "trainer", "stored_class", "dropped"),
    [
        (new_classifier, "classifier", None, ()),
        (new_puvae, "puvae", PuVAE, ("classifier",)),
        (new_dcgan, "defensegan", DCGAN, ()),
        (new_advgan, "advgan", AdvGAN, ("target", "evaluation_target")),
        (new_dynamic_advgan, "advgan", AdvGAN, ("target", "evaluation_target")),
    ],
)
def test_the_zoo_gives_back_the_trained_model(
    tmp_path, batch, make, trainer, stored_class, dropped
):
    model = write_run(tmp_path / "some_run", make(), trainer)
    _, stored = publish_run(tmp_path / "some_run")
    assert type(stored) is (stored_class or type(model))
    assert all(getattr(stored, name) is None for name in dropped)
    inputs = np.ones((2, 3), "float32") if trainer == "defensegan" else batch[0]
    np.testing.assert_allclose(model(inputs), stored(inputs), rtol=1e-3, atol=5e-3)
    if stored_class is AdvGAN:
        assert stored.epsilon == model.epsilon


def test_the_entry_says_how_it_was_trained(tmp_path):
    config = {"defense": "puvae", "whitebox": True, "gradient_mode": "soft"}
    write_run(tmp_path / "some_run", new_advgan(), "advgan", **config)
    entry, _ = publish_run(tmp_path / "some_run", "advgan_mnist_whitebox_puvae")
    expected = {
        "kind": "advgan",
        "dataset": "mnist",
        "command": "python -m trainers.advgan --dataset=mnist",
        "seed": 4,
        "validation": {"loss": 0.5},
        "gradient_mode": "soft",
        "wall_seconds": 12.5,
        "data_source": "embedded",
        "measured_as": {
            "classifier": "cnn",
            "epsilon": 0.2,
            "seed": 0,
            "attack": "advgan",
            "threat_model": "whitebox",
            "purifier": "puvae",
            "gradient_mode": "soft",
        },
    }
    assert {name: entry[name] for name in expected} == expected


def test_an_attack_that_crossed_no_purifier_has_no_gradient_mode(tmp_path):
    config = {"defense": "none", "whitebox": True}
    write_run(tmp_path / "some_run", new_advgan(), "advgan", **config)
    assert publish_run(tmp_path / "some_run")[0]["gradient_mode"] is None


def test_an_unfinished_run_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="`run` must be a finished run.*summary.json.*model.keras"):
        publish.publish({"run": tmp_path, "name": None, "zoo_dir": tmp_path / "zoo"})
    with pytest.raises(ValueError, match="`run` must be a run's folder"):
        publish.publish({"run": None, "name": None, "zoo_dir": None})


def test_an_adversarial_puvae_stays_one():
    model = AdversarialPuVAE((8, 8, 1), latent_dim=4, classifier=keras.layers.Flatten())
    model.build()
    copy = inference_model(model)
    assert type(copy) is AdversarialPuVAE
    assert copy.classifier is None
    images = np.random.default_rng(0).uniform(size=(2, 8, 8, 1)).astype("float32")
    np.testing.assert_allclose(copy(images), model(images), atol=1e-6)


def test_an_encoder_brings_its_preconditioner_and_no_generator(tmp_path):
    encoder = LatentEncoder(SHAPE, 3, Generator(SHAPE, 3), filters=(4,), units=8)
    folder = tmp_path / "runs" / "encoder_dcgan_mnist"
    write_run(folder, encoder, "encoder")
    _, stored = publish_run(folder)
    assert stored.generator is None
    assert np.abs(encoder.preconditioner - np.eye(3)).max() > 0.001
    np.testing.assert_allclose(stored.preconditioner, encoder.preconditioner, atol=1e-3)
    for part in ("encoder_head", "refiner_head"):
        pairs = zip(
            getattr(stored, part).get_weights(), getattr(encoder, part).get_weights(), strict=True
        )
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, atol=1e-3)
