"""Which workers a training has, from TensorFlow's environment variable `TF_CONFIG`."""

import json

_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)


def from_environment(environment):
    """Returns `(addresses, own)`: every worker's "host:port", the chief's first, and our place.

    Args:
        environment: `os.environ`, or what stands for it. `TF_CONFIG` in it is what TensorFlow
            documents: a cluster of `worker`s and at most one `chief`, and which of them this is.

    Raises:
        ValueError: If `TF_CONFIG` is missing or does not say that.
    """
    text = environment.get("TF_CONFIG")
    try:
        config = json.loads(text or "null")
        cluster, task = dict(config["cluster"]), dict(config["task"])
        chiefs, workers = cluster.pop("chief", []), cluster.pop("worker", [])
        own = {"chief": 0, "worker": len(chiefs)}[task["type"]] + task["index"]
        addresses = [*chiefs, *workers]
        own_job = chiefs if task["type"] == "chief" else workers
        is_fine = (
            not cluster
            and len(chiefs) <= 1
            and type(task["index"]) is int
            and 0 <= task["index"] < len(own_job)
            and all(_is_address(address) for address in addresses)
            and len(set(addresses)) == len(addresses)
        )
    except (ValueError, TypeError, KeyError):
        is_fine = False
    if not is_fine:
        raise ValueError(
            "`TF_CONFIG` must name a cluster of workers (each once, as host:port; one of them may "
            "be a chief) and which of them this is, to train with distribution=multi_worker, like "
            f"{_EXAMPLE}. Received: TF_CONFIG={text}"
        )
    return addresses, own


def _is_address(address):
    if not isinstance(address, str):
        return False
    host, _, port = address.rpartition(":")
    return bool(host) and port.isdigit()
