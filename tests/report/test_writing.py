"""What the tables say is what the records say, beside the study's number of the same cell."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfpurify.evaluation.diagnostics import with_derived_checks
from tfpurify.evaluation.distances import make_distances
from tfpurify.evaluation.image_rows import ImageRow
from tfpurify.evaluation.rates import wilson_interval
from tfpurify.evaluation.records import (
    make_record,
    read_records,
    update_records,
    write_records,
)
from tfpurify.report import page, repository, writing
from tfpurify.report.figures import figure_rates
from tfpurify.report.further_tables import Beside
from tfpurify.report.table_rows import MARKS
from tfpurify.report.tables import results_markdown, summary_lines, table_blocks

README = f"# Title\n\n{repository._START}\nold\n{repository._END}\nrest\n"


def record(threat_model="none", purifier="none", rate=None, n=1000, **fields):
    attacked = rate is not None
    low, high = wilson_interval(round(rate * n), n) if attacked else (None, None)
    rates = {
        "clean_accuracy": 0.99,
        "purified_clean_accuracy": None if purifier == "none" else 0.98,
        "robust_accuracy": 1 - rate if attacked else None,
        "attack_success_rate": rate,
        "attack_success_rate_low": low,
        "attack_success_rate_high": high,
    }
    fields = {
        "dataset": "mnist",
        "data_source": "embedded",
        "split": "test",
        "classifier": "cnn",
        "attack": "advgan" if attacked else "none",
        "epsilon": 0.2 if attacked else None,
        "seed": 0,
        "command": "python -m trainers.reproduce",
        "checks": [],
        **fields,
    }
    return make_record(n=n, threat_model=threat_model, purifier=purifier, **rates, **fields)


ENDS = ("attack_success_rate", "attack_success_rate_low", "attack_success_rate_high")


@pytest.fixture
def records():
    return [
        record(),
        record("blackbox", rate=0.55, attack="advgan_static"),
        record("blackbox", rate=0.61, attack="advgan_dynamic"),
        record("blind", "puvae", rate=0.172),
        record("whitebox", rate=0.95),
        record("whitebox", "puvae", rate=0.8, gradient_mode="soft", checks=["few_images: so few"]),
        record("whitebox", "puvae", rate=0.7, attack="pgd", gradient_mode="soft", n=200),
        record("whitebox", "puvae", rate=0.4, attack="pgd", gradient_mode="exact", n=200),
    ]


def line_of(text, *words):
    found = [line for line in text.splitlines() if all(word in line for word in words)]
    assert found, f"no line with {words}"
    return found[0]


def test_each_cell_has_n_interval_and_the_studys_number(records):
    text = writing.tables_markdown(records)
    blind = line_of(text, "blind", "PuVAE")
    assert "17.2 [15.0, 19.7] (n=1000)" in blind and "study 17.2" in blind
    assert "98.0 [" in blind  # purified clean accuracy
    assert "study 90.6" in line_of(text, "whitebox", "DefenseGAN", "not measured")
    assert "99.0 [" in line_of(text, "MNIST", "study 99.5")
    mark = MARKS["few_images"]
    assert line_of(text, "AdvGAN (soft)", "study 74.1").endswith(f"| {mark} |")
    assert "wider than 10 points" in line_of(text, f"{mark}: `few_images`")
    assert "embedded sample" in text


def test_a_rate_without_images_to_count_on_is_undefined(records):
    record = {**records[3], "attack_success_rate": None, "purified_clean_accuracy": 0.0}
    assert "undefined (n=1000)" in line_of(writing.tables_markdown([record]), "blind", "PuVAE")


def test_the_better_distillation_is_the_cell(records):
    assert writing.pick(records, "mnist", "blackbox", "none")["attack"] == "advgan_dynamic"
    line = line_of(writing.tables_markdown(records), "blackbox", "study 56.6")
    assert "61.0" in line and "AdvGAN (dynamic)" in line


def test_every_other_attack_has_a_row_in_the_table_of_what_its_attacker_knows(records):
    records.append(record("whitebox", rate=0.97, attack="pgd"))
    records.append(record("blind", "puvae", rate=0.66, attack="pgd"))
    less, whitebox = writing.tables_markdown(records).split("Table 3. Attackers")
    assert "55.0" in line_of(less, "AdvGAN (static)", "not in study")
    assert "66.0" in line_of(less, "blind", "PGD", "not in study")
    assert "97.0" not in less and "97.0" in line_of(whitebox, "none", "PGD")


def test_pgd_has_its_own_rows_and_never_takes_advgans(records):
    text = writing.tables_markdown(records)
    assert "80.0" in line_of(text, "AdvGAN (soft)", "study 74.1")
    assert "70.0" in line_of(text, "PGD (soft)", "n=200", "not in study")
    assert "40.0" in line_of(text, "PGD (exact)", "n=200", "not in study")


def test_the_worst_case_stands_beside_advgans_rate_and_in_no_row_of_its_own(records):
    mode = {"gradient_mode": "strongest"}
    records.append(record("whitebox", "puvae", rate=0.9, attack="worst_case", n=100, **mode))
    text = writing.tables_markdown(records)
    assert "90.0 [82.6, 94.5] (n=100)" in line_of(text, "AdvGAN (soft)", "study 74.1")
    assert "worst case (strongest)" not in text.split("Notes:")[0]
    assert "worst case (strongest), whitebox: ASR 90.0" in "\n".join(summary_lines(records))


def test_what_only_a_worst_case_measured_has_a_row(records):
    assert "adversarially" not in writing.tables_markdown(records)
    records.append(record("whitebox", "puvae_adversarial", rate=0.08, attack="worst_case"))
    line = line_of(writing.tables_markdown(records), "whitebox", "PuVAE (adversarially trained)")
    assert "not measured" in line and "8.0 [6.5, 9.8] (n=1000)" in line and "98.0 [" in line


def test_a_flag_between_records_stands_in_the_row_of_the_number(records):
    records.append(record("blind", "puvae", rate=0.85, n=5000))
    line = line_of(writing.tables_markdown(records), "AdvGAN (soft)", "study 74.1")
    assert MARKS["whitebox_below_blind"] in line.split("|")[-2].split()


@pytest.mark.parametrize(
    "foreign",
    [
        {"dataset": "fashion_mnist"},
        {"split": "validation"},
        {"classifier": "a"},
        {"epsilon": 0.3},
        {"n": 100},
    ],
)
def test_records_of_another_setting_do_not_take_a_cell(records, foreign):
    records.append(record("blind", "puvae", rate=0.9, **foreign))
    assert writing.pick(records, "mnist", "blind", "puvae")["attack_success_rate"] == 0.172


def test_seeds_of_one_size_give_the_strongest_attack(records):
    records.append(record("blind", "puvae", rate=0.2, seed=1))
    assert writing.pick(records, "mnist", "blind", "puvae")["seed"] == 1


def test_update_replaces_the_same_measurement_only(tmp_path, records):
    path = tmp_path / "results.jsonl"
    update_records(path, records)
    again = record("blind", "puvae", rate=0.3, n=10_000)
    update_records(path, [again, record("blind", "puvae", rate=0.1, seed=7)])
    found = read_records(path)
    assert len(found) == len(records) + 1
    assert again in found and records[3] not in found


def test_a_search_of_another_command_stays_and_the_cell_takes_the_worst(tmp_path, records):
    path = tmp_path / "results.jsonl"
    short, long = (
        record("whitebox", "puvae", rate=rate, attack="worst_case", n=n, command=command)
        for rate, n, command in ((0.7, 200, "short"), (0.9, 100, "long"))
    )
    for found in (long, short):
        update_records(path, [found])
    assert read_records(path) == with_derived_checks([long, short], [])
    again = {**short, "attack_success_rate": 0.6}
    update_records(path, [again])
    assert read_records(path) == with_derived_checks([long, again], [])
    assert writing.pick([short, long], "mnist", "whitebox", "puvae", "worst_case") is long
    lucky = record("whitebox", "puvae", rate=1.0, attack="worst_case", n=5)
    assert writing.pick([long, lucky], "mnist", "whitebox", "puvae", "worst_case") is long


def test_update_keeps_what_was_measured_on_more_images(tmp_path, records):
    path = tmp_path / "results.jsonl"
    many = {**record("blind", "puvae", rate=0.2, n=10_000), "data_source": "tfds"}
    update_records(path, [many])
    few = {**many, "n": 100, "attack_success_rate": 0.1}
    embedded = {**many, "n": 20_000, "data_source": "embedded"}
    update_records(path, [few, embedded])
    assert read_records(path) == [many]


def test_report_holds_records_tables_and_figures(tmp_path, records):
    rng = np.random.default_rng(0)
    row = ImageRow(
        title="blind: purified by PuVAE",
        images=rng.uniform(size=(2, 28, 28, 1)),
        labels=np.array([3, 4]),
        predictions=np.array([3, 9]),
        confidences=np.array([0.9, 0.5]),
        class_names=tuple("0123456789"),
    )
    folder = writing.write_report(tmp_path / "report", records, {"mnist": [row]}, ["cifar10, not"])
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("records.jsonl", "distances.jsonl", "report.md", "report.html"),
        *("rates.png", "trade_off.png", "images_mnist.png"),
    }
    assert read_records(folder / "records.jsonl") == with_derived_checks(records, [])
    text = (folder / "report.md").read_text()
    assert writing.tables_markdown(records) in text and "cifar10, not" in text
    for name in ("rates.png", "images_mnist.png"):
        assert f"({name})" in text
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def cifar(threat_model, purifier, rate, **fields):
    return record(
        threat_model,
        purifier,
        rate,
        dataset="cifar10",
        classifier="vgg13",
        epsilon=8 / 255,
        **fields,
    )


def test_the_small_budget_has_a_table_only_where_it_was_measured():
    plain = [record(dataset="cifar10", classifier="vgg13")]
    assert "8/255" not in writing.tables_markdown(plain).partition("Notes:")[0]
    found = [*plain, cifar("blind", "puvae", 0.25), cifar("whitebox", "none", 0.75)]
    text = writing.tables_markdown(found).partition("**Table 4")[2]
    line = line_of(text, "blind", "PuVAE")
    assert "25.0 [" in line and "98.0 [" in line  # ASR and the purifier's cost
    assert writing.pick(found, "cifar10", "blind", "puvae") is None  # not in the study's cell
    assert "wide prior" not in text
    found.append(cifar("blind", "defensegan_wide", 0.5))
    line_of(writing.tables_markdown(found).partition("Table 4")[2], "wide prior", "50.0 [")


def test_priors_stand_beside_each_other_with_their_errors():
    found = [
        record("blind", "defensegan", 0.1),
        record("blind", "defensegan_wgan", 0.2, n=500),
    ]
    errors = {"clean": np.full(500, 0.0125), "adversarial": np.full(500, 0.05)}
    line = make_distances(found[1], errors, 0.1)
    text = writing.tables_markdown(found, Beside(distances=[line])).partition("**Table 5")[2]
    assert "0.0125 (n=500)" in line_of(text, "WGAN-GP", "20.0 [")
    assert "not measured" in line_of(text, "the study's", "10.0 [")


def test_the_transfer_matrix_takes_source_and_target_from_the_record():
    found = [
        record("blind", "puvae_cnn", 0.125, classifier="a", n=500),
        record("blind", "puvae_cnn", 0.5, classifier="a", n=20),  # fewer images: not this one
        record("blind", "puvae_a", 0.25, classifier="cnn"),
        record("whitebox", "none", 0.875, classifier="a"),
    ]
    text = writing.tables_markdown(found).partition("**Table 6")[2]
    assert [cell[:5] for cell in line_of(text, "| S = cnn").split(" | ")[1:]] == [
        *("not m", "12.5 ", "not m")
    ]
    assert line_of(text, "| S = a").split(" | ")[1].startswith("25.0 ")
    assert line_of(text, "| no purifier").split(" | ")[2].startswith("87.5 ")


def test_the_summary_names_the_strongest_attack(records):
    line = line_of("\n".join(summary_lines(records)), "PuVAE")
    assert "98.0 [" in line and "AdvGAN (soft), whitebox: ASR 80.0 [" in line
    assert "lower bound" not in line
    bound = [record("whitebox", "defensegan", 0.1, gradient_mode="bpda")]
    assert "AdvGAN (bpda), whitebox: ASR 10.0 [" in summary_lines(bound)[0]
    assert "a lower bound" in summary_lines(bound)[0]


def test_unwritable_folder_is_named(tmp_path, records):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="`output_dir` must be a writable folder. Received: .*file"):
        writing.write_report(tmp_path / "file" / "report", records)


def test_the_shipped_figure_stands_in_the_same_row(records):
    here = [record("none", n=20), record("blind", "puvae", rate=0.5, n=20)]
    shipped = [*records, record("blind", "puvae", rate=0.69, n=200, attack="worst_case")]
    text = page.markdown(table_blocks(here, shipped))
    header = line_of(text, "Threat model", "Shipped worst case")
    row = line_of(text, "blind", "PuVAE", "study 17.2")
    cells = dict(zip(header.split(" | "), row.split(" | "), strict=True))
    assert cells["ASR"].startswith("50.0") and cells["Shipped"].startswith("17.2")
    assert next(v for k, v in cells.items() if k.startswith("Shipped worst")).startswith("69.0")
    clean = line_of(text, "cnn", "none", "study 99.5")
    assert "(n=20)" in clean and "(n=1000)" in clean
    unmeasured = line_of(text, "whitebox", "PuVAE", "study 74.1")
    assert "not measured" in unmeasured and "80.0" in unmeasured


def test_the_results_have_a_section_for_each_data_set(records):
    other = record("blind", "puvae", rate=0.3, dataset="fashion_mnist")
    text = results_markdown([*records, other])
    mnist, rest = text.split("## MNIST")[1].split("## Fashion-MNIST")
    assert "17.2 [" in mnist and "30.0 [" not in mnist
    assert "30.0 [" in rest.split("## Across the data sets")[0]
    assert "| Fashion-MNIST |" not in mnist


def test_readme_keeps_what_is_outside_the_markers(records):
    text = writing.readme_with_results(README, records)
    assert text.startswith("# Title\n\n") and text.endswith(f"{repository._END}\nrest\n")
    assert "\nold\n" not in text and "98.0 [96.9, 98.7]" in line_of(text, "PuVAE")
    assert writing.readme_with_results(text, records) == text


@pytest.mark.parametrize(
    "text", ["", repository._START, repository._END + repository._START, README * 2]
)
def test_readme_needs_its_markers(records, text):
    with pytest.raises(ValueError, match="must hold `<!-- results:start -->`"):
        writing.readme_with_results(text, records)


def test_readme_command_updates_and_checks(tmp_path, records):
    readme, path = tmp_path / "README.md", tmp_path / "results.jsonl"
    readme.write_text(README)
    write_records(path, records)
    status = writing.update_readme(readme, path, is_check=True)
    assert status == 1 and readme.read_text() == README
    assert writing.update_readme(readme, path, is_check=False) == 0
    assert writing.update_readme(readme, path, is_check=True) == 0
    figure_rates(records, tmp_path / "rates.png", origin="of other records")
    assert writing.update_readme(readme, path, is_check=True) == 1


def test_readme_commands_errors_are_one_line(tmp_path):
    command = [sys.executable, "-m", "tfpurify.report", f"--readme={tmp_path / 'no.md'}", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "Traceback" not in done.stderr


def test_the_readme_shows_what_was_measured():
    root = Path(writing.__file__).parents[2]
    results = root / "saved_models" / "zoo" / "results.jsonl"
    assert writing.update_readme(root / "README.md", results, is_check=True) == 0


def test_a_point_says_what_it_differs_in():
    point = {"dataset": "mnist", "n": 4, "purified_clean_accuracy": 0.5}
    point |= dict(zip(ENDS, (0.5, 0.2, 0.8), strict=True))
    settings = [{"input_noise": 0.0, "L": 2}, {"input_noise": 0.1, "L": 2}]
    lines = [{**point, "run": f"run{i}", "settings": one} for i, one in enumerate(settings)]
    markdown = writing.tables_markdown([], Beside(frontier=lines))
    assert "| MNIST | run1 | input_noise 0.1 |" in markdown
    assert "not measured" in markdown
    known = {f"whitebox_{key}": point[key] for key in ENDS} | {"whitebox_n": 20}
    assert "(n=20)" in writing.tables_markdown([], Beside(frontier=[{**lines[0], **known}]))
