"""DefenseGAN's projectors beside each other: `python -m benchmarks.projector --json=FILE`."""

from absl import flags

from benchmarks import _options
from trainers import _flags

DATASETS = ("mnist", "fashion_mnist")
BATCH_SIZE = 64
SEED = 0


def define_flags():
    """Defines what this benchmark has beside the common flags."""
    _options.define_data_dir()
    flags.DEFINE_integer("num_images", 256, "Test images, whole batches of 64.", lower_bound=64)
    flags.DEFINE_integer("single_images", 200, "Images timed one by one.", lower_bound=20)
    flags.DEFINE_integer("torch_steps", 20, "Steps of the loop beside PyTorch.", lower_bound=2)


class Bench:
    """All that is measured on one data set.

    Args:
        dataset: Name of the data set.
        options: The flags by name.
    """

    def __init__(self, dataset, options):
        import tensorflow as tf

        import tfpurify

        self.options = options
        stream = tfpurify.load_dataset(dataset, "test", options["data_dir"])
        images, labels = next(iter(stream.batch(max(options["num_images"], BATCH_SIZE))))
        count = len(images) // BATCH_SIZE * BATCH_SIZE
        self.images, self.labels = images[:count], labels[:count].numpy()
        self.fast = tfpurify.DefenseGAN.from_preset(f"dcgan_{dataset}", projector="fast", seed=SEED)
        self.reference = tfpurify.DefenseGAN(self.fast.generator, projector="reference", seed=SEED)
        self.reference.build()
        self.puvae = tfpurify.PuVAE.from_preset(f"puvae_{dataset}")
        self.classifier = tfpurify.Classifier.from_preset(f"cnn_{dataset}")
        self.purify_puvae = tf.function(self.puvae)

    def batches(self):
        """Yields the images, `BATCH_SIZE` at a time."""
        for start in range(0, len(self.images), BATCH_SIZE):
            yield self.images[start : start + BATCH_SIZE]

    def run(self):
        """Returns the data set's figures."""
        figures = self._beside_reference()
        return {
            **figures,
            "time_over_puvae": self._over_puvae(),
            "single_image_ms": self._single_image(),
            "torch_over_reference": self._over_torch(),
        }

    def _beside_reference(self):
        """Times both projectors on every batch in turn, and compares what they found."""
        import numpy as np

        from benchmarks import _measure

        errors = {"fast": [], "reference": []}
        seconds = {"fast": [], "reference": []}

        def project(name, batch):
            errors[name].append(np.min(getattr(self, name).project(batch)[1], axis=1))

        for projector in (self.fast, self.reference):
            projector.project(self.images[:BATCH_SIZE])  # traces; not timed
        for batch in self.batches():
            calls = {name: lambda name=name, batch=batch: project(name, batch) for name in errors}
            for name, values in _measure.in_turn(calls, rounds=1, warm_up=0).items():
                seconds[name] += values
        found = {name: np.concatenate(values) for name, values in errors.items()}
        summary = {
            name: {
                "mean": float(values.mean()),
                "p90": float(np.quantile(values, 0.9)),
                "ms_per_image": 1e3 * np.median(seconds[name]) / BATCH_SIZE,
            }
            for name, values in found.items()
        }
        fast, reference = summary["fast"], summary["reference"]
        return {
            **summary,
            "error_ratio_mean": fast["mean"] / reference["mean"],
            "error_ratio_p90": fast["p90"] / reference["p90"],
            "time_ratio": _measure.ratio(seconds["fast"], seconds["reference"]),
        }

    def _over_puvae(self):
        from benchmarks import _measure

        batch = self.images[:BATCH_SIZE]
        calls = {
            "fast": lambda: self.fast(batch),
            "puvae": lambda: self.purify_puvae(batch),
        }
        seconds = _measure.in_turn(calls, rounds=9, warm_up=2)
        return _measure.ratio(seconds["fast"], seconds["puvae"])

    def _single_image(self):
        """Returns milliseconds of the whole graph, purifier and classifier, image by image."""
        import numpy as np
        import tensorflow as tf

        import tfpurify
        from benchmarks import _measure

        target = tfpurify.PurifiedClassifier(self.fast, self.classifier)
        target.build()
        answer = tf.function(target)
        calls = (
            {"whole": lambda i=i: answer(self.images[i : i + 1])}
            for i in np.arange(self.options["single_images"]) % len(self.images)
        )
        answer(self.images[:1])
        values = [1e3 * _measure.in_turn(call, rounds=1, warm_up=0)["whole"][0] for call in calls]
        return {"median": float(np.median(values)), "p95": float(np.quantile(values, 0.95))}

    def _over_torch(self):
        """Times a shorter reference beside the same loop in PyTorch; empty where it is missing."""
        import numpy as np

        import tfpurify
        from benchmarks import _measure

        if not _measure.has_peer("torch"):
            return {}
        from benchmarks import _torch_projector

        steps, batch = self.options["torch_steps"], self.images[:BATCH_SIZE]
        ours = tfpurify.DefenseGAN(self.fast.generator, projector="reference", num_steps=steps)
        ours.build()
        z0 = ours.initial_z().numpy()
        expected = ours.project(batch, z0)[1].numpy()
        calls = {"ours": lambda: ours.project(batch, z0)}
        for name, generator in _torch_projector.settings(self.fast.generator):
            found = _torch_projector.project(generator, batch, z0, steps)
            # The median, because rounding alone may send a descent over a ReLU another way.
            if np.median(np.abs(found - expected)) > 1e-4:
                raise ValueError(
                    "PyTorch's loop must find our errors. "
                    f"Received: medians {np.median(found):.6f}, {np.median(expected):.6f}"
                )
            calls[name] = lambda generator=generator: _torch_projector.project(
                generator, batch, z0, steps
            )
        seconds = _measure.in_turn(calls, rounds=5)
        return {
            name: _measure.ratio(values, seconds["ours"])
            for name, values in seconds.items()
            if name != "ours"
        }


def measure(options):
    """Measures every data set, and gives of each figure the worse one."""
    from benchmarks import _measure

    found = {dataset: Bench(dataset, options).run() for dataset in DATASETS}

    def worst(pick):
        return max(pick(figures) for figures in found.values())

    peers = [
        peer for figures in found.values() for peer in figures["torch_over_reference"].values()
    ]
    results = {
        "error_ratio_mean": worst(lambda figures: figures["error_ratio_mean"]),
        "error_ratio_p90": worst(lambda figures: figures["error_ratio_p90"]),
        "time_ratio": worst(lambda figures: figures["time_ratio"]["median"]),
        "single_image_ms_median": worst(lambda figures: figures["single_image_ms"]["median"]),
        "single_image_ms_p95": worst(lambda figures: figures["single_image_ms"]["p95"]),
        "time_over_puvae": worst(lambda figures: figures["time_over_puvae"]["median"]),
        "torch_over_reference": min((peer["median"] for peer in peers), default=None),
        "datasets": found,
    }
    conditions = {name: options[name] for name in ("num_images", "single_images", "torch_steps")}
    conditions["data_source"] = _options.data_source(DATASETS[0], options)
    _measure.write(options["json"], results, seed=SEED, batch_size=BATCH_SIZE, **conditions)


def main():
    """Runs the command line."""
    _flags.run_app(_options.define(define_flags), measure)


if __name__ == "__main__":
    main()
