"""The main job, the study's tables from trained parts: `python -m trainers.reproduce`."""

import dataclasses

from absl import flags, logging

from tfpurify import vocabulary
from trainers import _flags

_NEXT = """Next:
    python -m trainers.reproduce --thorough                     more images, every gradient mode
    python -m trainers.attack --dataset=mnist --defense=puvae   other attacks, other budgets
    python -m trainers.export --dataset=mnist --defense=puvae   a bundle to serve"""
# What is taken where a flag is not given.
_SHORT = {
    "limit": 200,
    "defensegan_limit": 8,
    "prior_limit": 4,
    "worst_case_steps": 10,
    "worst_case_limit": 32,
}
_THOROUGH = {
    "limit": None,
    "defensegan_limit": 100,
    "prior_limit": 25,
    "worst_case_steps": 20,
    "worst_case_limit": 32,
}


def define_flags():
    """Defines the flags and returns their names; only `main` calls this."""
    before = set(flags.FLAGS)
    flags.DEFINE_enum(
        "dataset", "all", (*vocabulary.DATASETS, "all"), "Data set; all that the zoo holds."
    )
    flags.DEFINE_enum(
        "data_source",
        None,
        vocabulary.DATA_SOURCES,
        "Where images come from: TFDS, the embedded sample, or whichever is there (auto). "
        "embedded if not given, auto with --retrain.",
    )
    flags.DEFINE_string("data_dir", None, "TFDS directory; TFDS_DATA_DIR if not given.")
    flags.DEFINE_list(
        "purifiers",
        None,
        "Purifiers whose experiments are measured, `none` among them; all if not given.",
    )
    flags.DEFINE_bool(
        "thorough",
        False,
        "Whether to measure on many images and through every gradient mode, which takes about 20 "
        "minutes on two cores; else a few, and the shipped figures stand beside them. "
        "--data_source=tfds and --retrain are thorough too.",
    )
    flags.DEFINE_integer(
        "limit",
        None,
        "Cap on the test images of each experiment; 200 if not given, none if thorough.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "defensegan_limit",
        None,
        "Cap on the test images behind DefenseGAN, whose 200 descent steps from 10 starts cost a "
        "few tenths of a second an image on two cores; 8, or 100 if thorough.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "prior_limit",
        None,
        "Cap on the test images behind DefenseGAN's other priors; 4, or 25 if thorough.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "pgd_steps", 0, "Steps of PGD beside the whitebox experiments; 0: none.", lower_bound=0
    )
    flags.DEFINE_list(
        "pgd_modes",
        None,
        "Their gradient modes; all that a purifier has if not given. Through DefenseGAN, "
        "`truncated` takes about 0.2 s an image and step.",
    )
    flags.DEFINE_integer("pgd_limit", 200, "Cap on the test images of PGD rows.", lower_bound=1)
    flags.DEFINE_integer(
        "worst_case_steps",
        None,
        "PGD's steps in the worst case, which AdvGAN's images are in too; 0: none. 10 through the "
        "strongest gradient mode, or 20 through each if thorough. `python -m trainers.attack` "
        "has more attacks.",
        lower_bound=0,
    )
    flags.DEFINE_integer(
        "worst_case_limit",
        None,
        "Cap on the test images of the worst case.",
        lower_bound=1,
    )
    flags.DEFINE_bool(
        "transfer",
        False,
        "Whether to measure PuVAEs in front of classifiers that they were not trained with; their "
        "models are not in the zoo but in --output_dir, where --retrain trains them.",
    )
    flags.DEFINE_integer("seed", None, "Seed of PGD, and of --retrain.", lower_bound=0)
    flags.DEFINE_bool("retrain", False, "Whether to train all that the tables need; resumable.")
    flags.DEFINE_integer(
        "train_steps", None, "With --retrain, a cap on every training's steps.", lower_bound=1
    )
    flags.DEFINE_string(
        "output_dir",
        "report",
        "Where records.jsonl, report.html, report.md and runs/ are written.",
    )
    flags.DEFINE_string(
        "results_file",
        None,
        "JSON lines file in which each record, once measured, replaces the older one too; "
        "distances.jsonl beside it likewise.",
    )
    return set(flags.FLAGS) - before


def reproduce(options):
    """Measures and reports.

    Args:
        options: The flags by name.

    Returns:
        The records.

    Raises:
        ValueError: If there is no data set whose parts are trained, or a purifier is unknown.
        OSError: If the output folder cannot be written.
    """
    from tfpurify.evaluation import experiment_runner, retraining
    from tfpurify.report import overview, writing

    is_retraining = options["retrain"]
    # As the commands of records say that are older than the short job.
    is_thorough = options["thorough"] or is_retraining or options["data_source"] == "tfds"
    usual = _THOROUGH if is_thorough else _SHORT
    options = {
        **options,
        "thorough": is_thorough,
        **{name: usual[name] for name in usual if options[name] is None},
        "data_source": options["data_source"] or ("auto" if is_retraining else "embedded"),
    }
    _require_purifiers(options)
    _require_modes(options)
    writing.require_writable(options["output_dir"])
    shipped = _shipped_records()
    datasets = vocabulary.DATASETS if options["dataset"] == "all" else (options["dataset"],)
    found, moved, image_rows, notes = [], [], {}, []
    print(overview.LEGEND, "", overview.line(overview.HEADER), sep="\n", flush=True)
    for dataset in datasets:
        if is_retraining:
            retraining.retrain(dataset, options)
        runner = experiment_runner.ExperimentRunner(dataset, options)
        missing = runner.parts.missing()
        if missing:
            notes.append(_missing_note(dataset, missing, options))
            logging.warning("%s: %d parts are not in the zoo yet", dataset, len(missing))

        def show(purifier, records, dataset=dataset):
            row = overview.overview_row(dataset, purifier, records, shipped)
            print(overview.line(row), flush=True)

        found_here = runner.run(show)
        if found_here:
            found += found_here
            moved += runner.distances
            image_rows[dataset] = runner.image_rows()
            if dataset != datasets[-1]:
                _write(options, datasets, found, image_rows, notes, moved, shipped)
    if not found:
        print("\n\n".join(notes))
        raise ValueError("`dataset` must have a trained classifier in the zoo. Received: none has")
    folder = _write(options, datasets, found, image_rows, notes, moved, shipped)
    print("", f"The report: {folder / 'report.html'}", *notes, _NEXT, sep="\n")
    return found


def _write(options, datasets, found, image_rows, notes, moved, shipped):
    """Writes the report of what is measured so far; returns its folder."""
    from tfpurify.models import zoo
    from tfpurify.report import writing
    from tfpurify.report.repository import read_beside

    beside = read_beside(zoo.default_folder() / "results.jsonl")
    here = {
        name: [line for line in lines if line["dataset"] in datasets]
        for name, lines in vars(beside).items()
    }
    beside = dataclasses.replace(beside, **{**here, "distances": moved})
    return writing.write_report(options["output_dir"], found, image_rows, notes, shipped, beside)


def _shipped_records():
    from tfpurify.evaluation.records import read_records
    from tfpurify.models import zoo

    path = zoo.default_folder() / "results.jsonl"
    return read_records(path) if path.exists() else []


def _require_purifiers(options):
    from tfpurify.evaluation import experiments

    known = {
        experiment.purifier
        for dataset in vocabulary.DATASETS
        for experiment in experiments.advgan_experiments(dataset, options["transfer"])
    }
    unknown = sorted(set(options["purifiers"] or known) - known)
    if unknown:
        raise ValueError(f"`purifiers` must be among {sorted(known)}. Received: {unknown}")


def _require_modes(options):
    unknown = sorted(set(options["pgd_modes"] or ()) - set(vocabulary.GRADIENT_MODES))
    if unknown:
        choices = list(vocabulary.GRADIENT_MODES)
        raise ValueError(f"`pgd_modes` must be among {choices}. Received: {unknown}")


def _missing_note(dataset, missing, options):
    names = ", ".join(part.name for part in missing)
    lines = [f"{dataset}, not in the zoo yet: {names}. What trains them:"]
    command = f"python -m trainers.reproduce --dataset={dataset} --retrain"
    if options["transfer"]:
        place = f" --output_dir={options['output_dir']}"
        lines += [f"    {part.command}{place}" for part in missing]
        command += f" --transfer{place}"
    else:
        lines += [f"    {part.command}" for part in missing]
        lines.append("each then: python -m trainers.publish --run=runs/NAME")
    lines.append(f"or all of it: {command}")
    return "\n".join(lines)


def _run(options):
    """Reproduces, if no other process does so in the same folder."""
    from tfpurify.files import claim
    from tfpurify.report.writing import require_writable

    claim(require_writable(options["output_dir"]) / ".lock")
    return reproduce(options)


def main():
    """Runs the main job from the command line."""
    _flags.run_app(define_flags(), _run)


if __name__ == "__main__":
    main()
