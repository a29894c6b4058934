"""What a purifier costs a service: `python -m benchmarks.serving`.

Exports none, PuVAE and DefenseGAN's fast projector, serves each with `trainers.serve` on loopback
and lets clients ask for one image after another. Each answer's label is compared with the graph's.
"""

import functools
import http.client
import json
import tempfile
import threading
import time

from absl import flags

from benchmarks import _options, _server
from trainers import _flags

_DEFENSES = ("none", "puvae", "defensegan_fast")
_IMAGES = 64  # different ones, asked for in turn


def define_flags():
    """Defines what this benchmark has beside the common flags."""
    _options.define_data_dir()
    flags.DEFINE_enum("dataset", "mnist", ("mnist", "fashion_mnist", "cifar10"), "Data set.")
    flags.DEFINE_integer("clients", 32, "That ask at the same time.", lower_bound=1)
    flags.DEFINE_integer("seconds", 60, "For which they do.", lower_bound=1)


def measure(options):
    """Measures each defence, and the ratio of its throughput to the bare classifier's."""
    import numpy as np
    import tensorflow as tf

    from benchmarks import _measure
    from tfpurify.data import loading

    source = _options.data_source(options["dataset"], options)
    images = loading.load_dataset(options["dataset"], "test", options["data_dir"], source)
    images = np.stack([image for image, _ in images.take(_IMAGES).as_numpy_iterator()])
    figures = {}
    for defense in _DEFENSES:
        with tempfile.TemporaryDirectory() as folder:
            version = _export(defense, folder, options, source)
            signature = tf.saved_model.load(str(version)).signatures["serving_default"]
            labels = signature(images=tf.constant(images))["label"].numpy()
            figures[defense] = _load(version.parent, images, labels, options)
    none = figures["none"]["requests_per_second"]
    ratios = {
        f"{defense}_over_none": figures[defense]["requests_per_second"] / none
        for defense in _DEFENSES[1:]
    }
    conditions = {key: options[key] for key in ("dataset", "clients", "seconds")}
    results = {**ratios, "defenses": figures}
    _measure.write(options["json"], results, seed=None, data_source=source, **conditions)


def _export(defense, folder, options, source):
    from trainers import export

    given = {
        "dataset": options["dataset"],
        "data_source": source,
        "data_dir": options["data_dir"],
        "defense": defense,
        "format": "saved_model",
        "calibration_examples": 100,
        "output_dir": folder,
    }
    unset = dict.fromkeys(("classifier", "projector", "time_budget_ms", "name"))
    return export.export({**unset, **given})


def _load(bundle, images, labels, options):
    """Returns requests, errors, throughput and latency of one bundle's server."""
    import numpy as np

    bodies = [json.dumps({"instances": [image.tolist()]}).encode() for image in images]
    with _server.serving(bundle) as port:
        ask = functools.partial(_ask, port, bundle.name)
        ask(bodies[0], int(labels[0]))  # traces
        deadline = time.perf_counter() + options["seconds"]
        results = [[] for _ in range(options["clients"])]
        threads = [
            threading.Thread(target=_client, args=(index, ask, bodies, labels, deadline, found))
            for index, found in enumerate(results)
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - started
    found = [one for part in results for one in part]
    times = [1e3 * taken for taken, is_right in found if is_right]
    return {
        "requests": len(found),
        "errors": len(found) - len(times),
        "requests_per_second": len(times) / seconds,
        "p50_ms": float(np.quantile(times, 0.5)),
        "p99_ms": float(np.quantile(times, 0.99)),
    }


def _client(index, ask, bodies, labels, deadline, found):
    """Asks until the deadline; appends the seconds of each request and whether it was right."""
    while time.perf_counter() < deadline:
        index = (index + 1) % len(bodies)
        started = time.perf_counter()
        is_right = ask(bodies[index], int(labels[index]))
        found.append((time.perf_counter() - started, is_right))


def _ask(port, name, body, label):
    try:
        status, answer = _server.post(port, name, body)
        return status == 200 and answer["predictions"][0]["label"] == label
    except (OSError, http.client.HTTPException, ValueError, LookupError):
        return False


def main():
    """Runs the command line."""
    _flags.run_app(_options.define(define_flags), measure)


if __name__ == "__main__":
    main()
