"""Each point is measured once on validation images, and says what it differs in."""

import json

import keras
import pytest

from tfpurify.attacks.advgan import AdvGAN
from tfpurify.data.specs import get_spec
from tfpurify.evaluation.frontier import read_frontier
from tfpurify.models.classifiers import build_classifier
from tfpurify.purifiers.dcgan import DCGAN
from tfpurify.purifiers.puvae import PuVAE
from tfpurify.report import writing
from tfpurify.training import configuration
from trainers import frontier


def finish(folder, trainer, model, **options):
    folder.mkdir(parents=True)
    if not model.built:
        model.build()
    model.save(folder / "model.keras")
    config = {
        "trainer": trainer,
        **configuration.resolve(trainer, {"dataset": "mnist", **options}),
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "summary.json").write_text("{}")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    keras.utils.set_random_seed(0)
    folder, spec = tmp_path_factory.mktemp("frontier"), get_spec("mnist")
    runs = folder / "runs"
    finish(runs / "cnn_mnist", "classifier", build_classifier("cnn", spec))
    finish(runs / "advgan_mnist_whitebox_none", "advgan", AdvGAN(spec.image_shape, width=2))
    puvae = PuVAE(spec.image_shape, latent_dim=2)
    finish(runs / "plain", "puvae", puvae)
    finish(runs / "noisy", "puvae", puvae, input_noise=0.1)
    finish(runs / "prior", "defensegan", DCGAN(spec.image_shape, latent_dim=2))
    return folder


def options(folder, **given):
    return {
        "dataset": "mnist",
        "data_source": "embedded",
        "data_dir": None,
        "noise_scales": [],
        "descents": [],
        "limit": 4,
        "pgd_steps": 0,
        "pgd_limit": 2,
        "output_dir": folder,
        "results_file": folder / "frontier.jsonl",
        **given,
    }


def test_points_say_their_settings_and_replace_older_ones(folder):
    runs = [folder / "runs" / name for name in ("plain", "noisy", "prior")]
    given = options(folder, runs=runs, noise_scales=["0", "0.5"], descents=["2x1", "1x2"])
    lines = frontier.frontier(given)
    puvaes, priors = lines[:4], lines[4:]
    assert [(p["settings"]["input_noise"], p["settings"]["noise_scale"]) for p in puvaes] == [
        *((0.0, 0.0), (0.0, 0.5), (0.1, 0.0), (0.1, 0.5))
    ]
    assert [(p["settings"]["L"], p["settings"]["R"]) for p in priors] == [(2, 1), (1, 2)]
    assert puvaes[0]["settings"]["classification_labels"] == "true"
    markdown = writing.tables_markdown([], frontier=lines)
    assert "| MNIST | noisy | input_noise 0.1, noise_scale 0.5 |" in markdown
    assert all(line["split"] == "validation" and line["n"] == 4 for line in lines)
    assert "whitebox_n" not in lines[0] and "not measured" in markdown
    frontier.frontier(options(folder, runs=runs[:1]))
    assert len(read_frontier(folder / "frontier.jsonl")) == len(lines)


def test_an_attacker_who_knows_the_point_is_measured_too(folder):
    runs = [folder / "runs" / name for name in ("plain", "prior")]
    given = options(folder, runs=runs, descents=["2x1"], pgd_steps=1, limit=20, pgd_limit=20)
    lines = frontier.frontier({**given, "results_file": None})
    for line in lines:
        assert line["whitebox_n"] == 20
        assert 0 <= line["whitebox_attack_success_rate"] <= 1
    assert "(n=20)" in writing.tables_markdown([], frontier=lines)


def test_a_run_on_other_data_is_refused(folder):
    given = options(folder, dataset="fashion_mnist", runs=[folder / "runs" / "plain"])
    with pytest.raises(ValueError, match="must be runs on `dataset`. Received: .*plain on mnist"):
        list(frontier._purifiers(given["runs"][0], given))


def test_a_run_that_is_no_purifier_is_refused(folder):
    with pytest.raises(ValueError, match="`runs` must be PuVAE or DCGAN runs"):
        frontier.frontier(options(folder, runs=[folder / "runs" / "cnn_mnist"]))
    with pytest.raises(ValueError, match="`runs` must name at least one run's folder"):
        frontier.frontier(options(folder, runs=[]))
