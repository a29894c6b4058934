"""PuVAE's ten candidates beside one: `python -m benchmarks.puvae --json=FILE`."""

from absl import flags

from benchmarks import _options
from trainers import _flags

DATASETS = ("mnist", "fashion_mnist", "cifar10")
BATCH_SIZE = 64


def define_flags():
    """Defines what this benchmark has beside the common flags."""
    _options.define_data_dir()
    flags.DEFINE_integer("rounds", 15, "Timed rounds.", lower_bound=3)


def ten_over_one(dataset, options):
    """Returns the time of purifying a batch over that of one reconstruction of each image."""
    import tensorflow as tf

    import tfpurify
    from benchmarks import _measure

    stream = tfpurify.load_dataset(dataset, "test", options["data_dir"])
    images, labels = next(iter(stream.batch(BATCH_SIZE)))
    puvae = tfpurify.PuVAE.from_preset(f"puvae_{dataset}")
    ten = tf.function(puvae)
    one = tf.function(lambda images, labels: puvae.reconstruct(images, labels, 0.0)[0])
    calls = {"ten": lambda: ten(images), "one": lambda: one(images, labels)}
    seconds = _measure.in_turn(calls, options["rounds"], warm_up=2)
    return {
        **_measure.ratio(seconds["ten"], seconds["one"]),
        "ms_per_image": 1e3 * _measure.spread(seconds["ten"])["median"] / BATCH_SIZE,
    }


def measure(options):
    """Measures every data set, and gives the worst."""
    from benchmarks import _measure

    found = {dataset: ten_over_one(dataset, options) for dataset in DATASETS}
    worst = max(figures["median"] for figures in found.values())
    results = {"ten_over_one": worst, "datasets": found}
    conditions = {"rounds": options["rounds"], "seed": None}  # nothing is drawn
    conditions["data_source"] = _options.data_source(DATASETS[0], options)
    _measure.write(options["json"], results, batch_size=BATCH_SIZE, **conditions)


def main():
    """Runs the command line."""
    _flags.run_app(_options.define(define_flags), measure)


if __name__ == "__main__":
    main()
