"""run.sh: what it installs and when, and that it passes all arguments to src/run.py."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def make_executable(path: Path, body: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{shutil.which('sh')}\n{body}\n")
    path.chmod(0o755)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a folder with run.sh and a PATH of the real shell tools, without Python and uv."""
    for name in ("run.sh", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    for tool in ("bash", "dirname", "cmp", "cp", "sed", "mkdir", "rm"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool))
    return tmp_path


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": str(checkout / "bin")}
    command = [str(checkout / "bin" / "bash"), str(checkout / "run.sh"), *words]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)


def pretend_installed(checkout: Path, body: str = 'echo "$@"') -> None:
    make_executable(checkout / ".venv" / "bin" / "python", body)
    shutil.copy(checkout / "requirements.txt", checkout / ".venv" / "installed")


def test_an_older_python_gets_one_clear_sentence(checkout: Path) -> None:
    old = 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi'
    make_executable(checkout / "bin" / "python3", old)
    ended = run(checkout)
    assert ended.returncode == 2
    assert ended.stderr.strip().count("\n") == 0
    assert "needs Python 3.11, 3.12 or 3.13" in ended.stderr and "Python 3.9.2" in ended.stderr


def test_no_python_at_all_gets_the_same_sentence(checkout: Path) -> None:
    ended = run(checkout)
    assert ended.returncode == 2 and "needs Python 3.11, 3.12 or 3.13, and found none" in ended.stderr


def test_a_second_start_installs_nothing_and_passes_the_arguments(checkout: Path) -> None:
    pretend_installed(checkout)
    ended = run(checkout, "input/some folder", "--recipe", "quick")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{checkout}/src/run.py input/some folder --recipe quick\n"


def test_a_study_is_a_script_of_its_own(checkout: Path) -> None:
    pretend_installed(checkout)
    assert run(checkout, "study", "cnn").stdout == f"{checkout}/src/study.py cnn\n"


def test_a_contest_of_kaggle_is_a_script_of_its_own(checkout: Path) -> None:
    pretend_installed(checkout)
    assert run(checkout, "kaggle", "birds", "--epochs", "2").stdout == (
        f"{checkout}/src/contest.py birds --epochs 2\n"
    )


def test_help_starts_with_the_text_of_run_sh(checkout: Path) -> None:
    pretend_installed(checkout)
    lines = run(checkout, "input/a", "--help").stdout.splitlines()
    text = "".join(lines[:-1])
    assert "./run.sh study" in text and "./run.sh kaggle" in text and "set -euo" not in text
    assert lines[-1] == f"{checkout}/src/run.py input/a --help"


def test_the_status_is_that_of_the_stages(checkout: Path) -> None:
    pretend_installed(checkout, "exit 2")
    assert run(checkout).returncode == 2


def test_the_stages_replace_the_shell_so_that_signals_reach_them(checkout: Path) -> None:
    pretend_installed(checkout, "echo $$")
    command = [str(checkout / "bin" / "bash"), str(checkout / "run.sh")]
    environment = {**os.environ, "PATH": str(checkout / "bin")}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as started:
        assert int(started.stdout.read()) == started.pid


def test_pip_installs_once_and_again_when_the_requirements_change(checkout: Path) -> None:
    venv = '[ "$2" != venv ] || { mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; }'
    make_executable(checkout / "bin" / "python3", f'echo "$@" >>"{checkout}/calls"\n{venv}')

    def installs() -> int:
        return (checkout / "calls").read_text().count("pip install")

    assert run(checkout).returncode == 0
    assert f"-m venv {checkout}/.venv" in (checkout / "calls").read_text() and installs() == 1
    assert run(checkout).returncode == 0 and installs() == 1
    with (checkout / "requirements.txt").open("a") as file:
        file.write("another==1.0\n")
    assert run(checkout).returncode == 0 and installs() == 2


def test_a_broken_installation_is_not_taken_for_a_complete_one(checkout: Path) -> None:
    venv = '[ "$2" != venv ] || { mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; }\n[ "$2" != pip ] || exit 1'
    make_executable(checkout / "bin" / "python3", venv)
    assert run(checkout).returncode == 1
    assert not (checkout / ".venv" / "installed").exists()


def test_ci_calls_exactly_the_test_command_of_the_readme() -> None:
    lines = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line and line[0] != "#"]
    assert lines[-1] == "exec ./run.sh test"
    assert "./run.sh test" in (ROOT / "README.md").read_text()


def test_every_dependency_is_pinned_exactly_and_none_is_unwanted() -> None:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert all(version for version in pins.values())
    # one build of OpenCV; the MIT release of albumentations; no torch that torchvision cannot load beside
    assert "opencv-python" not in pins and pins["albumentations"] == "2.0.8" and pins["torch"] != "2.13.0"
