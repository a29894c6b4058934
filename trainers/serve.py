"""Serves an exported bundle over REST: `python -m trainers.serve --bundle=saved_models/NAME`.

KServe's server (extra `serve`) on one SavedModel, with TensorFlow Serving's v1 bodies:

    POST /v1/models/NAME:predict   {"instances": [...]} or {"inputs": ...}, "signature_name"
    GET  /v1/models/NAME           whether it is ready
    GET  /v2/models/NAME           its inputs and outputs
    GET  /v2/health/live           whether the server lives

A body that is no request is answered with 400. An image that is wrong has an `error` of its own.
"""

from absl import flags

from trainers import _flags


def define_flags():
    """Defines the flags and returns their names; only `main` calls this.

    KServe defines its own, with its own parser.
    """
    before = set(flags.FLAGS)
    flags.DEFINE_string("bundle", None, "Folder of a bundle or of one of its versions.")
    flags.DEFINE_string("model_name", None, "In the URL; the bundle's folder's if not given.")
    flags.DEFINE_integer("port", 8080, "HTTP port.", lower_bound=1, upper_bound=65535)
    flags.mark_flag_as_required("bundle")
    return set(flags.FLAGS) - before


def serve(options):
    """Serves a bundle until the process is told to stop.

    Args:
        options: The flags by name.

    Raises:
        ImportError: If KServe is not installed.
        OSError: If the port is not free.
        ValueError: If there is no bundle, or it is damaged.
    """
    from tfpurify.serving.server import serve_bundle

    serve_bundle(options["bundle"], options["model_name"], options["port"])


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), serve)


if __name__ == "__main__":
    main()
