"""Trains AdvGAN: `python -m trainers.advgan --dataset=mnist --defense=puvae --whitebox`."""

import functools

from tfpurify.training import naming
from trainers import _flags


def build_model(config, spec, target, black_box, total_steps):
    """Returns a compiled AdvGAN.

    Args:
        config: AdvGAN's arguments and `learning_rate` are read.
        spec: The `DatasetSpec`.
        target: What the generator is trained against: a classifier, a purified classifier or a
            surrogate.
        black_box: What successes are counted on, if not the target: what a surrogate stands for,
            or the purified classifier behind a shortened descent. None otherwise.
        total_steps: Length of the cosine schedule.
    """
    from tfpurify.attacks.advgan import AdvGAN
    from tfpurify.attacks.distillation import DynamicAdvGAN
    from tfpurify.models.optimizers import Adam
    from tfpurify.training import options, runner

    arguments = options.model_arguments("advgan", config)
    arguments["target_class"] = config["target_class"] if config["targeted"] else None
    optimizers = [
        Adam(runner.cosine(config, total_steps)),
        Adam(runner.cosine(config, total_steps)),
    ]
    if config["blackbox"] == "dynamic":
        model = DynamicAdvGAN(spec.image_shape, target, black_box, **arguments)
        optimizers.append(Adam(runner.cosine(config, total_steps)))
    else:
        model = AdvGAN(spec.image_shape, target, black_box, **arguments)
    model.build()
    model.compile(*optimizers)
    return model


def run_fn(fn_args):
    """Trains, evaluates and exports; what TFX's Trainer calls."""
    from tfpurify.evaluation.run_record import evaluate_run
    from tfpurify.models.copies import frozen_part
    from tfpurify.purifiers.defensegan import DefenseGAN
    from tfpurify.serving import saved_model
    from tfpurify.training import runner, trained_parts
    from tfpurify.training.attack_training import (
        distil,
        image_row,
        take_weights,
        training_target,
    )

    run = runner.Run("advgan", fn_args)
    config = run.config
    threat_model = naming.threat_model(config)
    needed = trained_parts.classifier_parts(config["dataset"], config["classifier"])
    if config["defense"] != "none":
        needed += trained_parts.purifier_parts(config["defense"], config["dataset"])
    warm = (config["dataset"], config["epsilon"], config["classifier"])
    if config["warm_start"]:
        needed.append(trained_parts.attack_part(*warm))
    trained_parts.require_parts(needed, run.output_dir)
    place = (config["dataset"], run.output_dir, config["classifier"])
    deployed = trained_parts.load_deployed(config["defense"], *place)
    purifier, classifier = getattr(deployed, "purifier", None), deployed
    if purifier is not None:
        classifier = deployed.classifier
    total_steps = run.total_steps()
    black_box, surrogate = None, None
    if threat_model == "blackbox":
        black_box, surrogate = deployed, distil(run, deployed)
    elif config["mixed_precision"] or (config["whitebox"] and isinstance(purifier, DefenseGAN)):
        # Successes are counted on what is deployed: in float32, behind the whole descent. A plain
        # callable, because Keras cannot save two models of an attack that share their layers.
        served = deployed if config["whitebox"] else classifier
        black_box = functools.partial(served, training=False)

    def build():
        if surrogate is not None:
            target = frozen_part(surrogate, is_in_precision=False)
        else:
            target = training_target(run, frozen_part(classifier), purifier)
        return build_model(config, run.spec, target, black_box, total_steps)

    def measure_and_export(model):
        is_through_purifier = purifier is not None and config["whitebox"]
        fields = {
            "purifier": config["defense"],
            "threat_model": threat_model,
            "attack": naming.attack_name(config),
            "gradient_mode": config["gradient_mode"] if is_through_purifier else None,
        }
        evaluate_run(
            run, classifier, purifier, fields, attack=model, target_class=model.target_class
        )
        run.export(saved_model.export_attack, model, is_serving=purifier is None)
        if purifier is not None:
            name = f"{config['defense']}_{config['dataset']}_{config['classifier']}"
            run.export(saved_model.export_purified_classifier, deployed, name)

    model = run.build_model(build)
    if config["warm_start"]:
        part = trained_parts.attack_part(*warm)
        take_weights(model, trained_parts.load_part(part, run.output_dir))
    row = image_row(model, purifier, config["epsilon"])
    logs = run.train(model, row, best="attack_success_rate")
    run.finish(model, logs, build, measure_and_export)


def main():
    """Runs the trainer from the command line."""
    _flags.run("advgan", run_fn)


if __name__ == "__main__":
    main()
