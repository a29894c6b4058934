"""Training steps beside PyTorch's: `python -m benchmarks.train_steps --json=FILE`.

PyTorch runs each network in its best setting of float32 and bfloat16 autocast, with and without
channels_last; ours in the better of float32 and mixed_bfloat16.
"""

from absl import flags

from benchmarks import _options
from trainers import _flags

# Name -> trainer and data set.
NETWORKS = {
    "puvae": ("puvae", "mnist"),
    "dcgan": ("defensegan", "mnist"),
    "advgan": ("advgan", "mnist"),
    "vgg13": ("classifier", "cifar10"),
}
SEED = 0


def define_flags():
    """Defines what this benchmark has beside the common flags."""
    flags.DEFINE_list("networks", list(NETWORKS), "Which networks.")
    flags.DEFINE_integer("steps", 4, "Steps in a timed call.", lower_bound=1)
    flags.DEFINE_integer("rounds", 5, "Timed rounds.", lower_bound=3)
    flags.DEFINE_string("profile_dir", None, "Folder for a profile of our steps, if given.")


def _build(name, spec, config):
    """Returns our compiled model, as its trainer builds it."""
    from tfpurify.models.classifiers import Classifier, build_classifier
    from trainers import advgan, classifier, defensegan, puvae

    if name == "vgg13":
        return classifier.build_model(config, spec, 1000)
    if name == "dcgan":
        return defensegan.build_model(config, spec, 1000)
    trained = Classifier.from_preset(f"cnn_{spec.name}")
    copy = build_classifier("cnn", spec)
    copy.set_weights(trained.get_weights())
    if name == "puvae":
        return puvae.build_model(config, spec, copy, 1000)
    return advgan.build_model(config, spec, copy, None, 1000)


def _our_settings(name, spec, config, images, labels):
    """Yields a setting's name, a call of one step, and the number of trained weights."""
    import keras
    import numpy as np
    import tensorflow as tf

    for setting, policy in (("float32", "float32"), ("bfloat16", "mixed_bfloat16")):
        keras.config.set_dtype_policy(policy)
        try:
            model = _build(name, spec, config)
        finally:
            keras.config.set_dtype_policy("float32")
        step = tf.function(lambda images, labels, model=model: model.train_step((images, labels)))
        parts = [model]
        if hasattr(model, "discriminator"):
            parts = [model.generator, model.discriminator]
        trained = sum(int(np.prod(v.shape)) for part in parts for v in part.trainable_variables)

        def call(step=step):
            # A result of the step, so that a GPU is waited for.
            return next(iter(step(images, labels).values()))

        yield setting, call, trained


def measure_network(name, options):
    """Returns one network's images a second in each setting, and the best of each beside another.

    Raises:
        ValueError: If PyTorch's network has another number of trained weights.
    """
    import keras
    import tensorflow as tf

    import tfpurify
    from benchmarks import _measure
    from tfpurify.training import configuration

    keras.utils.set_random_seed(SEED)
    trainer, dataset = NETWORKS[name]
    spec = tfpurify.DATASETS[dataset]
    config = configuration.resolve(trainer, {"dataset": dataset})
    batch_size = config["batch_size"]
    stream = tfpurify.load_dataset(spec.name, "train", source="embedded")
    images, labels = next(iter(stream.batch(batch_size)))
    calls, counts = {}, {}
    for setting, call, count in _our_settings(name, spec, config, images, labels):
        calls["ours", setting], counts["ours"] = call, count
    if _measure.has_peer("torch"):
        from benchmarks import _torch_steps

        pairs = _torch_steps.settings(name, images.numpy(), labels.numpy())
        for setting, call, count in pairs:
            calls["torch", setting], counts["torch"] = call, count
        if counts["torch"] != counts["ours"]:
            raise ValueError(f"Both must train as many weights. Received: {counts}")

    def repeated(call):
        return [call() for _ in range(options["steps"])][-1:]

    timed = {key: lambda call=call: tuple(repeated(call)) for key, call in calls.items()}
    seconds = _measure.in_turn(timed, options["rounds"])
    if options["profile_dir"]:
        tf.profiler.experimental.start(f"{options['profile_dir']}/{name}")
        calls["ours", "float32"]()
        tf.profiler.experimental.stop()
    return _figures(seconds, batch_size * options["steps"])


def _figures(seconds, num_images):
    from benchmarks import _measure

    best = {}
    for (who, setting), values in seconds.items():
        middle = _measure.spread(values)["median"]
        if who not in best or middle < best[who][0]:
            best[who] = (middle, setting)
    rates = {
        f"{who}, {setting}": num_images / _measure.spread(values)["median"]
        for (who, setting), values in seconds.items()
    }
    figures = {"images_per_second": rates, "ours_best": best["ours"][1]}
    if "torch" not in best:
        return {**figures, "times_as_fast": None}
    pair = [(who, best[who][1]) for who in ("torch", "ours")]
    times_as_fast = _measure.ratio(*[seconds[key] for key in pair])
    return {**figures, "torch_best": best["torch"][1], "times_as_fast": times_as_fast}


def measure(options):
    """Measures every network."""
    from benchmarks import _measure

    found = {name: measure_network(name, options) for name in options["networks"]}
    conditions = {name: options[name] for name in ("steps", "rounds")}
    conditions |= {"seed": SEED, "data_source": "embedded"}
    _measure.write(options["json"], {"networks": found}, **conditions)


def main():
    """Runs the command line."""
    _flags.run_app(_options.define(define_flags), measure)


if __name__ == "__main__":
    main()
