"""A purifier as a detector: `python -m trainers.detect --dataset=mnist --defense=puvae`.

An image that the purifier moves far is taken for attacked. The thresholds come from clean
validation images; the attacks are a blind AdvGAN, a blind PGD, and PGD that knows the purifier,
without and with the detector.
"""

import json

from absl import flags

from tfpurify.registry import DEFENCES
from trainers import _flags

_DETECTORS = tuple(name for name, entry in DEFENCES.items() if entry.is_detector)
_SHOWN = (
    "threat_model",
    "attack",
    "knows_detector",
    "n",
    "auc",
    "success_rate",
    "undetected_success_rates",
)


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    _flags.define_data()
    _flags.define_classifier()
    flags.DEFINE_enum("defense", "puvae", _DETECTORS, "Purifier.")
    flags.DEFINE_float("epsilon", None, "L-inf bound on the perturbation; the study's 0.2.")
    flags.DEFINE_integer("num_steps", 40, "Steps of PGD.", lower_bound=1)
    flags.DEFINE_integer("limit", 100, "Cap on the test images of PGD.", lower_bound=1)
    flags.DEFINE_integer("clean_limit", 1000, "Cap on all other images.", lower_bound=1)
    flags.DEFINE_integer("seed", 0, "Seed of PGD's starts.", lower_bound=0)
    flags.DEFINE_string("output_dir", None, "Folder whose runs/ go before the zoo.")
    flags.DEFINE_string("results_file", None, "JSON lines file in which lines replace older ones.")
    return set(flags.FLAGS) - before


def detect(options):
    """Measures the detector against each attack and returns the lines.

    Args:
        options: The flags by name.

    Raises:
        ValueError: If a part is not trained.
    """
    from tfpurify.evaluation.detector import measure_detector

    return measure_detector(options, _show)


def _show(line):
    print(json.dumps({name: line[name] for name in _SHOWN}), flush=True)


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), detect)


if __name__ == "__main__":
    main()
