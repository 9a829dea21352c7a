"""Stale caches are listed with the command that removes them, and never removed automatically."""

import shlex
import subprocess
from pathlib import Path

import pytest
from conftest import MakeCompetition

import prepare
from foldsmith.data.stale_caches import find_stale_caches, removal_advice

SMALL = ["--recipe", "quick"]


def test_a_cache_is_used_as_long_as_one_run_was_prepared_with_it(
    make_competition: MakeCompetition, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(make_competition())
    for name, size in (("a", 16), ("b", 16), ("b", 24)):
        words = ["--output", str(tmp_path), "--name", name, "--image-size", str(size), "--again"]
        assert prepare.main([folder, *SMALL, *words]) == 0
    assert "rm -r" not in capsys.readouterr().out  # run a uses the first
    assert find_stale_caches(tmp_path / "tiny/cache") == []

    words = ["--output", str(tmp_path), "--name", "a", "--image-size", "24", "--again"]
    assert prepare.main([folder, *SMALL, *words]) == 0
    printed = capsys.readouterr().out
    (stale,) = find_stale_caches(tmp_path / "tiny/cache")
    assert stale.name.startswith("16px-") and stale.is_dir()
    command = "rm -r " + printed.partition("rm -r ")[2].splitlines()[0]
    subprocess.run(shlex.split(command), check=True)
    assert not stale.exists() and find_stale_caches(tmp_path / "tiny/cache") == []


def test_the_command_that_removes_is_safe_for_any_name(tmp_path: Path) -> None:
    cache = tmp_path / "a b; rm -r x" / "16px-0"
    cache.mkdir(parents=True)
    (cache / "pixels.npy").write_bytes(bytes(3_000_000))
    message = removal_advice([cache])
    assert "3 MB" in message
    assert shlex.split(message.partition(": ")[2]) == ["rm", "-r", str(cache)]
