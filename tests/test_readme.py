"""The README's Python runs as it stands, and it stays short."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import tfpurify

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


@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS)
def test_its_python_runs(snippet):
    finished = subprocess.run(
        [sys.executable, "-c", snippet], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip()
