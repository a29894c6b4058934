"""Puts a finished run into the zoo: `python -m trainers.publish --run=runs/cnn_mnist`."""

from absl import flags

from trainers import _flags


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    flags.DEFINE_string("run", None, "Folder of the finished run: runs/NAME.")
    flags.DEFINE_string("name", None, "Name in the zoo; the run's if not given.")
    flags.DEFINE_string("note", None, "What the command does not say of how it was made.")
    flags.DEFINE_string("zoo_dir", None, "The zoo's folder; the repository's if not given.")
    return set(flags.FLAGS) - before


def publish(options):
    """Adds a finished run to the zoo and compares what the zoo gives back.

    Args:
        options: The flags by name.

    Returns:
        The zoo's entry.

    Raises:
        ValueError: If the run is not finished.
    """
    from tfpurify.training.publishing import publish_run

    return publish_run(options["run"], options["name"], options["zoo_dir"], options.get("note"))


def main():
    """Runs the command line."""
    _flags.run_app(define_flags(), publish)


if __name__ == "__main__":
    main()
