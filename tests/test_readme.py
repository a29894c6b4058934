"""The README's Python runs as it stands, and it stays short."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tfpurify
from benchmarks import image_sizes

ROOT = Path(tfpurify.__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SNIPPETS = [text for text in _PYTHON if "saved_models" not in text]


def test_the_readme_has_at_most_200_lines():
    assert len(README.splitlines()) <= 200


def test_every_program_it_names_is_there():
    programs = set(re.findall(r"python -m ((?:trainers|tfpurify)(?:\.\w+)+)", README))
    assert len(programs) >= 10
    for program in programs:
        path = ROOT / Path(*program.split("."))
        assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), program


def test_its_table_of_sizes_is_what_was_measured():
    results = json.loads((ROOT / "benchmarks" / "image_sizes.json").read_text(encoding="utf-8"))
    assert image_sizes.with_table(README, results) == README
    assert len(image_sizes.table(results)) == 2 + len(image_sizes.SIDES)


def run(folder, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
    )


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_its_python_runs(snippet, tmp_path):
    if "sklearn" in snippet:
        pytest.importorskip("sklearn")
    finished = run(tmp_path, "-c", snippet)
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()


@pytest.mark.slow
def test_a_classifier_is_protected_as_it_says(tmp_path):
    pytest.importorskip("sklearn")
    (snippet,) = (one for one in SNIPPETS if "load_digits" in one)
    finished = run(tmp_path, "-c", snippet)
    assert finished.returncode == 0, finished.stderr
    (command,) = re.findall(r"^python (-m trainers\.protect .*)$", README, re.MULTILINE)
    arguments = shlex.split(command.replace("--minutes=30", "--minutes=4"))
    finished = run(tmp_path, *arguments)
    assert finished.returncode in (0, 3, 4), finished.stderr
    assert "no purifier" in finished.stdout and "Serve it" in finished.stdout
    assert (tmp_path / "runs" / "protect_digits" / "index.html").stat().st_size > 10_000
    bundle = tmp_path / "saved_models" / "puvae_adversarial_digits_digits_net"
    assert (bundle / "1" / "saved_model.pb").is_file()
    lines = (tmp_path / "runs" / "protect_digits" / "records.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    assert {(one["purifier"], one["threat_model"]) for one in found} == {
        ("none", "whitebox"),
        ("puvae_adversarial", "blind"),
        ("puvae_adversarial", "whitebox"),
    }
    assert all(one["clean_accuracy"] > 0.9 for one in found)
    again = run(tmp_path, *arguments)
    assert again.returncode == finished.returncode
    assert again.stdout.count(": done before") == 6
