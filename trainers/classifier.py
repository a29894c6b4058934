"""Trains a classifier on clean images: `python -m trainers.classifier --dataset=mnist`."""

from trainers import _flags

WARMUP_SHARE = 0.25  # of the steps, up to the peak of the one cycle


def build_model(config, spec, total_steps):
    """Returns a compiled classifier.

    Args:
        config: `classifier`, `optimizer`, `learning_rate` and `weight_decay` are read.
        spec: The `DatasetSpec`.
        total_steps: Length of the one-cycle schedule.
    """
    import keras

    from tfpurify.models import optimizers
    from tfpurify.models.classifiers import build_classifier

    model = build_classifier(config["classifier"], spec)
    warmup_steps = int(WARMUP_SHARE * total_steps)
    schedule = keras.optimizers.schedules.CosineDecay(
        config["learning_rate"] / 25,
        decay_steps=total_steps - warmup_steps,
        alpha=1e-3,
        warmup_target=config["learning_rate"],
        warmup_steps=warmup_steps,
    )
    if config["optimizer"] == "sgd":
        optimizer = optimizers.SGD(
            schedule, momentum=0.9, nesterov=True, weight_decay=config["weight_decay"]
        )
    else:
        optimizer = keras.optimizers.AdamW(schedule, weight_decay=config["weight_decay"])
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def run_fn(fn_args):
    """Trains, evaluates and exports; what TFX's Trainer calls."""
    from tfpurify.evaluation.run_record import evaluate_run
    from tfpurify.serving import saved_model
    from tfpurify.training import runner

    run = runner.Run("classifier", fn_args)
    total_steps = run.total_steps()

    def build():
        return build_model(run.config, run.spec, total_steps)

    def measure_and_export(model):
        evaluate_run(run, model)
        run.export(saved_model.export_classifier, model)

    model = run.build_model(build)
    logs = run.train(model, lambda _: {})
    run.finish(model, logs, build, measure_and_export)


def main():
    """Runs the trainer from the command line."""
    _flags.run("classifier", run_fn)


if __name__ == "__main__":
    main()
