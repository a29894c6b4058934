"""A card says what the manifest and the records say of its model, and nothing of others."""

import pytest

from tfpurify.data.specs import get_spec
from tfpurify.evaluation.records import make_record
from tfpurify.models import zoo
from tfpurify.models.classifiers import build_classifier
from tfpurify.report import cards
from tfpurify.training import configuration, naming


def record(**fields):
    return make_record(
        **{
            "dataset": "mnist",
            "data_source": "tfds",
            "split": "test",
            "n": 1000,
            "classifier": "cnn",
            "clean_accuracy": 0.9912,
            "seed": 0,
            "command": "python -m trainers.reproduce",
            **fields,
        }
    )


def test_a_card_shows_data_command_seed_figures_and_limits(tmp_path):
    model = build_classifier("cnn", get_spec("mnist"))
    entry = zoo.save(
        model,
        "cnn_mnist",
        tmp_path,
        kind="classifier",
        dataset="mnist",
        command="python -m trainers.classifier --dataset=mnist",
        seed=3,
        validation={"accuracy": 0.9876},
        measured_as={"classifier": "cnn", "purifier": "none"},
        note="A run that was resumed.",
    )
    behind = record(purifier="puvae", purified_clean_accuracy=0.9333)
    text = cards.cards(tmp_path, [record(), behind])["cnn_mnist"]
    for words in (
        *("# cnn_mnist", "MNIST, from TFDS", "python -m trainers.classifier --dataset=mnist"),
        *("| Seed | 3 |", entry["sha256"], "accuracy: 0.9876", "99.1 [98.3, 99.5] (n=1000)"),
        cards.LIMITS["classifier"],
        "A run that was resumed.",
    ):
        assert words in text
    assert "93.3" not in text


@pytest.mark.parametrize(
    ("trainer", "config", "fields"),
    [
        ("puvae", {"classifier": "cnn"}, {"purifier": "puvae"}),
        ("puvae", {"name": "puvae_v2"}, {"purifier": "puvae_v2"}),
        ("defensegan", {"gan_loss": "wgan-gp", "width": 1}, {"purifier": "defensegan_wgan"}),
    ],
)
def test_purifiers_are_measured_under_their_name(trainer, config, fields):
    config = configuration.resolve(trainer, {"dataset": "mnist", "classifier": "cnn", **config})
    assert naming.measured_as(trainer, config) == fields


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"whitebox": True}, {"attack": "advgan", "gradient_mode": None}),
        (
            {"whitebox": True, "defense": "puvae"},
            {"threat_model": "whitebox", "purifier": "puvae", "gradient_mode": "soft"},
        ),
        ({"defense": "puvae"}, {"threat_model": "blind", "purifier": "puvae"}),
        (
            {"blackbox": "static"},
            {"attack": "advgan_static", "threat_model": "blackbox", "purifier": "none"},
        ),
        ({"targeted": True, "target_class": 3}, {"attack": "advgan_target3"}),
    ],
)
def test_an_attack_is_measured_as_what_it_was_trained_for(config, expected):
    config = configuration.resolve("advgan", {"dataset": "mnist", **config})
    fields = naming.measured_as("advgan", config)
    assert expected.items() <= fields.items()
    is_bare = config["blackbox"] == "none" and config["defense"] == "none"
    assert ("threat_model" in fields) == (not is_bare)  # also the blind one behind every purifier
