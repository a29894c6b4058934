"""What an installed package holds: the modules and the embedded sample, far from this folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tfpurify
from tfpurify.data import embedded

pytest.importorskip("setuptools")
ROOT = Path(tfpurify.__file__).parents[1]
SAMPLE = Path(embedded.__file__).parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what a wheel would hold, built without writing into the repository."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return folder


def test_every_module_and_every_file_of_the_sample_is_packed(installed):
    packed = {path.relative_to(installed) for path in installed.rglob("*") if path.is_file()}
    for package in ("tfpurify", "trainers"):
        modules = {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}
        assert modules <= packed
    sample = {path.relative_to(ROOT) for path in SAMPLE.iterdir() if path.is_file()}
    assert len([path for path in sample if path.suffix == ".tfrecord"]) == 6
    assert sample <= packed


def test_the_sample_loads_from_there(installed, tmp_path):
    code = (
        "import tfpurify\n"
        "images = tfpurify.load_dataset('mnist', 'test', source='embedded')\n"
        "print(tfpurify.__file__, int(images.cardinality()), next(iter(images))[0].shape)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == [
        str(installed / "tfpurify" / "__init__.py"),
        "1000",
        "(28,",
        "28,",
        "1)",
    ]
