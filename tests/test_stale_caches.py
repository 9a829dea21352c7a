"""Caches that no run uses are named with the command that removes them, and never removed unasked."""

import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import MakeCompetition

import prepare
from foldsmith.data.stale_caches import describe_removal, find_stale_caches

SMALL = ["--recipe", "quick"]


def test_a_cache_is_used_as_long_as_one_run_was_prepared_with_it(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(make_competition())
    for name, size in (("a", 16), ("b", 16), ("b", 24)):
        words = ["--output", str(tmp_path), "--name", name, "--image-size", str(size), "--again"]
        assert prepare.main([folder, *SMALL, *words]) == 0
    assert "older pixel cache" not in capsys.readouterr().out  # run a has the first
    assert find_stale_caches(tmp_path / "tiny/cache") == []

    words = ["--output", str(tmp_path), "--name", "a", "--image-size", "24", "--again"]
    assert prepare.main([folder, *SMALL, *words]) == 0
    told = capsys.readouterr().out
    (unused,) = find_stale_caches(tmp_path / "tiny/cache")
    assert unused.name.startswith("16px-") and unused.is_dir()
    command = told.partition("MB: ")[2].splitlines()[0]
    subprocess.run(shlex.split(command), check=True)
    assert not unused.exists() and find_stale_caches(tmp_path / "tiny/cache") == []


def test_the_command_that_removes_is_safe_for_any_name(tmp_path: Path) -> None:
    cache = tmp_path / "a b; rm -r x" / "16px-0"
    cache.mkdir(parents=True)
    (cache / "pixels.npy").write_bytes(bytes(3_000_000))
    told = describe_removal([cache])
    assert told.startswith("an older pixel cache, 3 MB: rm -r ")
    assert shlex.split(told.partition(": ")[2]) == ["rm", "-r", str(cache)]
