"""The flags that every benchmark has."""

from absl import flags


def define(define_more):
    """Defines the common flags and a benchmark's own; returns their names. Only `main` calls this.

    Args:
        define_more: Function that defines the benchmark's own flags.
    """
    before = set(flags.FLAGS)
    flags.DEFINE_string("json", None, "File that the results are written to.")
    define_more()
    return set(flags.FLAGS) - before


def define_data_dir():
    """Defines where images come from."""
    flags.DEFINE_string("data_dir", None, "TFDS directory; TFDS_DATA_DIR if not given.")


def data_source(dataset, options):
    """Returns where a data set's images are read from: `tfds` or `embedded`."""
    from tfpurify.data import loading

    return loading.resolve_source(dataset, options["data_dir"], "auto")
