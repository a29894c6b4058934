"""Files appear whole or not at all, and no measurement gives way to a weaker one."""

import logging

import pytest

from tfpurify.files import read_json_lines, replace_lines, write_aside, write_json_lines


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "lines.jsonl"
    write_json_lines(path, [{"n": 1}])
    with pytest.raises(ValueError, match="Out of range float"):
        write_json_lines(path, [{"n": 2}, {"n": float("nan")}])
    assert [line for _, line in read_json_lines(path)] == [{"n": 1}]
    assert [found.name for found in tmp_path.iterdir()] == ["lines.jsonl"]


def test_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "lines.jsonl"
    write_aside(path, '{"n": 1}\n{"n": \n')
    with pytest.raises(ValueError, match=r"lines.jsonl, line 2 must be JSON. Received: '{\"n\": "):
        list(read_json_lines(path))


@pytest.mark.parametrize(
    ("n", "data_source", "is_kept"),
    [(9, "tfds", True), (20, "embedded", True), (10, "tfds", False), (11, "tfds", False)],
)
def test_only_a_measurement_of_as_many_images_replaces(n, data_source, is_kept, caplog):
    older = {"cell": {"of": "a"}, "n": 10, "data_source": "tfds", "rate": 0.5}
    other = {**older, "cell": {"of": "b"}, "n": 3}
    newer = {**older, "n": n, "data_source": data_source, "rate": 0.25}
    with caplog.at_level(logging.WARNING, logger="absl"):
        found = replace_lines([older, other], [newer], lambda line: line["cell"])
    assert found == [older if is_kept else newer, other]
    assert ("more images stays" in caplog.text) == is_kept
