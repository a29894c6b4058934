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
    from tfpurify.models.copies import frozen_part
    from tfpurify.serving.run_exports import measure_and_export_purifier
    from tfpurify.training import runner

    run = runner.Run("puvae", fn_args)
    classifier = run.classifier()
    total_steps = run.total_steps()

    def build():
        return build_model(run.config, run.spec, frozen_part(classifier), total_steps)

    model = run.build_model(build)
    best = "adversarial_accuracy" if run.config["adversarial"] else None
    logs = run.train(model, lambda images: {"purified": model(images)}, best=best)
    run.finish(
        model, logs, build, lambda trained: measure_and_export_purifier(run, classifier, trained)
    )


def main():
    """Runs the trainer from the command line."""
    _flags.run("puvae", run_fn)


if __name__ == "__main__":
    main()
