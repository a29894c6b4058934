"""Files appear whole or not at all, and one process at a time writes them."""

import os
import shutil
import signal
import subprocess
import sys

import pytest

from tfpurify.files import (
    claim,
    claim_beside,
    read_json_lines,
    write_aside,
    write_json_lines,
)


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


HOLDER = """
import sys, time
from tfpurify.files import claim_beside
claim_beside(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def test_one_process_at_a_time_writes_and_a_killed_one_gives_way(tmp_path):
    path = tmp_path / "runs" / "mine"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(OSError, match="another process has .*runs/.mine.lock"):
                claim_beside(path)
        finally:
            os.kill(holder.pid, signal.SIGKILL)
    claim_beside(path)
    claim_beside(path)
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "another process has" in refused.stderr and refused.returncode != 0


def test_a_folder_that_was_deleted_is_claimed_again(tmp_path):
    path = tmp_path / "run" / ".lock"
    claim(path)
    shutil.rmtree(path.parent)
    claim(path)
    command = [sys.executable, "-c", HOLDER.replace("claim_beside", "claim"), str(path)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "another process has" in refused.stderr


def test_a_lock_in_a_folder_that_is_none_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        claim(tmp_path / "file" / ".lock")
