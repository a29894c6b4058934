"""Trains a PuVAE in front of a classifier: `python -m trainers.puvae --dataset=mnist`.

`--adversarial` trains it on images that are attacked through it.
"""

from trainers import _flags


def build_model(config, spec, classifier, total_steps):
    """Returns a compiled PuVAE.

    Args:
        config: PuVAE's arguments and `learning_rate` are read.
        spec: The `DatasetSpec`.
        classifier: The frozen source classifier.
        total_steps: Length of the cosine schedule.
    """
    from tfpurify.models import optimizers
    from tfpurify.purifiers.adversarial_puvae import AdversarialPuVAE
    from tfpurify.purifiers.puvae import PuVAE
    from tfpurify.training import options, runner

    model = (AdversarialPuVAE if config["adversarial"] else PuVAE)(
        spec.image_shape,
        num_classes=spec.num_classes,
        classifier=classifier,
        **options.model_arguments("puvae", config),
    )
    model.build()
    model.compile(optimizer=optimizers.Adam(runner.cosine(config, total_steps)))
    return model


def run_fn(fn_args):
    """Trains, evaluates and exports; what TFX's Trainer calls."""
    from tfpurify.evaluation.run_record import evaluate_run
    from tfpurify.purifiers.purified_classifier import PurifiedClassifier
    from tfpurify.serving import saved_model
    from tfpurify.training import naming, runner

    run = runner.Run("puvae", fn_args)
    classifier = run.classifier()
    total_steps = run.total_steps()
    with run.scope(), run.precision():
        model = build_model(run.config, run.spec, run.in_precision(classifier), total_steps)
    best = "adversarial_accuracy" if run.config["adversarial"] else None
    logs = run.train(model, lambda images: {"purified": model(images)}, best=best)
    if not run.is_chief:
        run.wait_for_chief()
        return
    model = run.full_precision(
        model, lambda: build_model(run.config, run.spec, classifier, total_steps)
    )
    run.save(model)
    evaluate_run(run, classifier, model, {"purifier": naming.purifier_of("puvae", run.config)})
    run.export(saved_model.export_purifier, model, is_serving=False)
    purified = PurifiedClassifier(model, classifier)
    purified.build()
    run.export(
        saved_model.export_purified_classifier, purified, f"{run.name}_{run.config['classifier']}"
    )
    run.summarize(model, logs)


def main():
    """Runs the trainer from the command line."""
    _flags.run("puvae", run_fn)


if __name__ == "__main__":
    main()
