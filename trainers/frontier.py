"""What a purifier's settings cost and protect, on validation images: `python -m trainers.frontier`.

What to choose a preset from: the validation split, never the test split. The blind attack is the
one on the bare classifier that is trained at the time; measure lines that are compared together.
"""

import json
from pathlib import Path

from absl import flags, logging

from tfpurify import provenance
from trainers import _flags

# Settings by which points of a frontier may differ.
_SETTINGS = (
    "epochs",
    "steps_per_epoch",
    "batch_size",
    "augment",
    "latent_dim",
    "reconstruction_weight",
    "kl_weight",
    "classification_weight",
    "classification_labels",
    "input_noise",
    "input_noise_period",
    "batch_normalization",
    "gan_loss",
    "width",
)


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    _flags.define_data("cifar10")
    flags.DEFINE_list("runs", [], "Folders of finished PuVAE and DCGAN runs.")
    flags.DEFINE_list("noise_scales", [], "Latent noises of each PuVAE; the run's if not given.")
    flags.DEFINE_list("descents", [], "LxR of each DCGAN: steps x starts; 200x10 if not given.")
    flags.DEFINE_integer("limit", 1000, "Cap on the validation images.", lower_bound=1)
    flags.DEFINE_integer(
        "pgd_steps",
        0,
        "Steps of PGD through each point, in every gradient mode of a PuVAE and truncated through "
        "a descent; 0: none.",
        lower_bound=0,
    )
    flags.DEFINE_integer("pgd_limit", 100, "Cap on its images.", lower_bound=1)
    flags.DEFINE_string("output_dir", None, "Folder whose runs/ go before the zoo.")
    flags.DEFINE_string("results_file", None, "JSON lines file in which lines replace older ones.")
    return set(flags.FLAGS) - before


def frontier(options):
    """Measures every point and returns its lines.

    Args:
        options: The flags by name.

    Raises:
        ValueError: If there is no run, or one is not finished or not of a purifier.
    """
    from tfpurify.data import loading
    from tfpurify.evaluation.frontier import update_frontier
    from tfpurify.training import trained_parts
    from tfpurify.vocabulary import STUDY_EPSILON

    if not options["runs"]:
        raise ValueError("`runs` must name at least one run's folder. Received: none")
    dataset = options["dataset"]
    source = loading.resolve_source(dataset, options["data_dir"], options["data_source"])
    images = loading.load_dataset(dataset, "validation", options["data_dir"], source)
    classifier = trained_parts.load_classifier(dataset, options["output_dir"])
    part = trained_parts.attack_part(dataset, STUDY_EPSILON)
    attack = trained_parts.load_part(part, options["output_dir"])
    lines = []
    for run in options["runs"]:
        for settings, purifier in _purifiers(Path(run), options):
            line = _measure(images, options["limit"], source, classifier, attack, purifier)
            if options["pgd_steps"]:
                line |= _measure_whitebox(images, options, classifier, purifier)
            lines.append({"dataset": dataset, "run": Path(run).name, "settings": settings, **line})
            logging.info("%s", json.dumps(lines[-1]))
            if options["results_file"]:
                update_frontier(options["results_file"], lines[-1:])
    return lines


def _measure(images, limit, source, classifier, attack, purifier):
    from tfpurify.evaluation.rates import evaluate

    rates = evaluate(
        images.take(limit).batch(50),
        classifier,
        purifier=purifier,
        attack=attack,
    )
    keys = ("attack_success_rate", "attack_success_rate_low", "attack_success_rate_high")
    return {
        "data_source": source,
        "split": "validation",
        "n": rates["n"],
        "epsilon": attack.epsilon,
        "purified_clean_accuracy": rates["purified_clean_accuracy"],
        **{key: rates[key] for key in keys},
        "command": provenance.portable_command(provenance.command_line()),
        "versions": provenance.versions(),
    }


def _measure_whitebox(images, options, classifier, purifier):
    """Returns the success rate of PGD that knows the point, with its interval and n."""
    from tfpurify.attacks.worst_case import WorstCase
    from tfpurify.evaluation.attacks_by_name import Settings, make_attacks
    from tfpurify.evaluation.defences import Defence
    from tfpurify.evaluation.rates import evaluate
    from tfpurify.purifiers.puvae import PuVAE
    from tfpurify.vocabulary import STUDY_EPSILON

    is_puvae = isinstance(purifier, PuVAE)
    name = "puvae" if is_puvae else "defensegan"
    defence = Defence(options["dataset"], name, "whitebox", classifier, purifier)
    settings = Settings(num_steps=options["pgd_steps"], soft_candidates=3)
    modes = None if is_puvae else ("truncated",)
    attacks = make_attacks(("pgd",), defence, settings, modes)
    rates = evaluate(
        images.take(options["pgd_limit"]).batch(50),
        classifier,
        purifier=purifier,
        attack=WorstCase(attacks, defence.served),
        epsilon=STUDY_EPSILON,
    )
    keys = ("attack_success_rate", "attack_success_rate_low", "attack_success_rate_high", "n")
    return {f"whitebox_{key}": rates[key] for key in keys}


def _purifiers(folder, options):
    """Yields the settings and the purifier of each point of a run."""
    from tfpurify.models import zoo
    from tfpurify.training import run_folder, trained_parts

    run_folder.finished_run(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["dataset"] != options["dataset"]:
        raise ValueError(
            f"`runs` must be runs on `dataset`. Received: {folder} on {config['dataset']}, "
            f"dataset={options['dataset']}"
        )
    settings = {name: config[name] for name in _SETTINGS if name in config}
    model = zoo.load_model(folder / "model.keras", compile=False)
    if config["trainer"] == "puvae":
        for noise_scale in options["noise_scales"] or [model.noise_scale]:
            model.noise_scale = float(noise_scale)
            yield {**settings, "noise_scale": model.noise_scale}, model
    elif config["trainer"] == "defensegan":
        for descent in options["descents"] or ["200x10"]:
            steps, restarts = map(int, descent.split("x"))
            purifier = trained_parts.as_purifier(model, num_steps=steps, num_restarts=restarts)
            yield {**settings, "L": steps, "R": restarts}, purifier
    else:
        raise ValueError(f"`runs` must be PuVAE or DCGAN runs. Received: {folder}")


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), frontier)


if __name__ == "__main__":
    main()
