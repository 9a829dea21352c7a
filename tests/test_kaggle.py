"""Kaggle in and out: through a stand-in for the client, and the real client against a local service."""

import io
import json
import shutil
import sys
import time
import tomllib
import zipfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import MakeCompetition, naming
from kaggle_service import SCORED, SLUG, TOKEN, Service, serve, stand_in

import contest
import infer
import prepare
import split
import submit
import train
from foldsmith.competition.archives import DamagedArchive
from foldsmith.deployment import submitting
from foldsmith.deployment.kaggle_client import check_slug, connect
from foldsmith.deployment.kaggle_metrics import METRICS, known_metric
from foldsmith.errors import InputError
from foldsmith.process.faults import MachineError
from foldsmith.run.kaggle_scores import Submission, load_submissions, save_submissions, scored_submission
from foldsmith.run.paths import RunPaths
from foldsmith.tasks.metrics import find_metric

PENDING = {"status": "PENDING"}
SMALL = ["--recipe", "quick", "--image-size", "16", "--epochs", "1", "--batch-size", "8", "--holdout", "0.5"]
SMALL += ["--precision", "fp32", "--workers", "0", "--device", "cpu"]


def zip_of(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


FILES = {"train/1.txt": "one" * 500, "train/2.txt": "two", "sample_submission.csv": "id,label\n1,a\n"}
WHOLE = zip_of(FILES)
DAMAGED = WHOLE.replace(b"oneone", b"oneeno", 1)  # its checksum tells


@pytest.fixture(params=["interface", "http"])
def service(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Service]:
    """Yield the service that the client asks; once a stand-in for the client, once the real one by HTTP."""
    service = Service(archives=[WHOLE])
    monkeypatch.chdir(tmp_path)
    if request.param == "interface":
        stand_in(service, monkeypatch)
        yield service
    else:
        server = serve(service, monkeypatch, tmp_path / "home")
        yield service
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the seconds that were waited for, each; nobody sleeps."""
    seconds: list[float] = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the words that the stages are run with; none runs."""
    runs: list[list[str]] = []

    def run_stages(program: Path, words: list[str]) -> int:
        assert program.name == "run.sh" and program.is_file()
        runs.append(words)
        return 0

    monkeypatch.setattr(contest, "run_stages", run_stages)
    return runs


def files_in(folder: Path) -> dict[str, str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_text() for path in paths}


# --- getting a contest


def test_a_contest_is_unpacked_with_its_metric_and_run(
    service: Service, stages: list[list[str]], capsys: pytest.CaptureFixture
) -> None:
    run = RunPaths(Path("output") / SLUG / "quick")
    run.root.mkdir(parents=True)
    run.submission.touch()
    run.cv.write_text(json.dumps({"metric": "accuracy", "mean": 0.98765}))
    assert contest.main([SLUG, "--recipe", "quick"]) == 0
    folder = Path("input") / SLUG
    files = files_in(folder)
    assert tomllib.loads(files.pop("competition.toml")) == {"metric": "accuracy"}
    assert files == FILES
    assert [path.name for path in Path("input").iterdir()] == [SLUG]  # no archive, lock or half folder
    assert stages == [[str(folder), "--recipe", "quick"]]
    printed = capsys.readouterr().out
    for fact in ("Categorization Accuracy", "2026-12-24", "5 submissions", f"--kaggle {SLUG} -m", "0.9877"):
        assert fact in printed

    calls = list(service.calls)
    assert contest.main([SLUG, "--recipe", "quick"]) == 0
    assert service.calls == calls and len(stages) == 2


def test_a_code_contest_is_said_to_take_notebooks(
    service: Service, stages: list[list[str]], capsys: pytest.CaptureFixture
) -> None:
    service.facts = {"isKernelsSubmissionsOnly": True}
    run = RunPaths(Path("output") / SLUG / "default")
    run.root.mkdir(parents=True)
    run.submission.touch()
    assert contest.main([SLUG]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert "notebooks" in printed[1] and "notebooks" in printed[-1] and "--kaggle" not in printed[-1]


def test_an_interrupted_download_leaves_no_folder_and_resumes(
    service: Service, stages: list[list[str]]
) -> None:
    files = {**FILES, "train/3.txt": "x" * 3_000_000}  # the real client keeps whole megabytes of what arrived
    service.archives, service.is_cut = [zip_of(files)], True
    with pytest.raises(MachineError, match="Kaggle"):
        contest.main([SLUG])
    assert not [path for path in Path("input").iterdir() if path.name == SLUG or path.name.endswith(".part")]
    service.is_cut = False
    assert contest.main([SLUG]) == 0
    assert service.delivered[0] == 0 and service.delivered[-1] > 0
    assert files.items() <= files_in(Path("input") / SLUG).items() and len(stages) == 1


def test_a_damaged_archive_is_fetched_again_once(service: Service, stages: list[list[str]]) -> None:
    service.archives = [DAMAGED, WHOLE]
    assert contest.main([SLUG]) == 0
    assert service.delivered == [0, 0]
    assert FILES.items() <= files_in(Path("input") / SLUG).items()

    shutil.rmtree(Path("input") / SLUG)
    service.archives = [DAMAGED]
    with pytest.raises(DamagedArchive, match=naming(SLUG)):
        contest.main([SLUG])
    assert not (Path("input") / SLUG).exists() and len(stages) == 1


def test_a_full_disk_is_told_before_the_download(
    service: Service, stages: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1))
    with pytest.raises(MachineError, match=naming(SLUG, "MB", "free")):
        contest.main([SLUG])
    assert not list(Path("input").rglob("*.zip")) and not (Path("input") / SLUG).exists() and stages == []


@pytest.mark.parametrize(
    ("slug", "facts", "refusals", "keys"),
    [
        (SLUG, {"userHasEntered": False}, {}, [f"competitions/{SLUG}/rules"]),
        ("nobody-knows", {}, {}, ["nobody-knows", "not found"]),
        (SLUG, {}, {"GetCompetition": (403, "Permission denied")}, ["Permission denied", "/rules"]),
        (SLUG, {}, {"GetCompetition": (401, "Unauthenticated")}, ["KAGGLE_API_TOKEN"]),
    ],
)
def test_a_contest_that_kaggle_does_not_give_is_refused(
    service: Service,
    stages: list[list[str]],
    slug: str,
    facts: dict[str, object],
    refusals: dict[str, tuple[int, str]],
    keys: list[str],
) -> None:
    service.facts, service.refusals = facts, refusals
    with pytest.raises(InputError, match=naming(*keys)):
        contest.main([slug])
    assert service.delivered == [] and stages == [] and not (Path("input") / slug).exists()


@pytest.mark.parametrize(
    ("metric", "files", "settings", "said"),
    [
        ("Intersection over Union", FILES, None, "Intersection over Union"),
        ("Log Loss", {**FILES, "competition.toml": 'metric = "roc_auc"'}, {"metric": "roc_auc"}, "as it is"),
        ('Log Loss"\n[x]', FILES, None, "Log Loss"),
    ],
)
def test_a_metric_is_noted_only_where_it_is_sure_and_nothing_is_replaced(
    service: Service,
    stages: list[list[str]],
    capsys: pytest.CaptureFixture,
    metric: str,
    files: dict[str, str],
    settings: dict[str, str] | None,
    said: str,
) -> None:
    service.facts, service.archives = {"evaluationMetric": metric}, [zip_of(files)]
    contest.main([SLUG])
    path = Path("input") / SLUG / "competition.toml"
    assert (tomllib.loads(path.read_text()) if path.exists() else None) == settings
    assert said in capsys.readouterr().out


def test_names_of_metrics_are_read_in_any_spelling_and_all_are_ours() -> None:
    assert known_metric("MAP@5") == "map_at_5"
    assert known_metric("Root  Mean-Squared Error") == "rmse"
    assert known_metric("Mean F-Score") == known_metric("MAP@{K}") == known_metric("") == ""
    for name in METRICS.values():
        assert find_metric(name).name == name


def test_wrong_words_are_refused_before_anything_is_asked(service: Service, stages: list[list[str]]) -> None:
    for words, keys in (
        ([SLUG, "--recip", "quick"], ["--recipe"]),
        (["https://www.kaggle.com/competitions/birds-2026/data"], ["write birds-2026 alone"]),
        (["../birds"], ["../birds"]),
    ):
        with pytest.raises(InputError, match=naming(*keys)):
            contest.main(words)
    assert service.calls == [] and stages == []
    check_slug("GiveMeSomeCredit")


# --- signing in


def test_missing_credentials_are_one_sentence_and_no_exit(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    service.has_credentials = False
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    with pytest.raises(
        InputError, match=naming("KAGGLE_API_TOKEN", "access_token", "KAGGLE_KEY", "kaggle.json")
    ):
        connect()
    assert capsys.readouterr().out == ""


def test_a_missing_package_is_told_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("kaggle", "kaggle.api.kaggle_api_extended"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=naming("pip install", "requirements-kaggle.txt")):
        connect()


# --- submitting


@pytest.fixture(scope="module")
def runs(make_competition: MakeCompetition, tmp_path_factory: pytest.TempPathFactory) -> list[RunPaths]:
    """Return two runs with a submission, and their average."""
    folder, output = make_competition(per_class=4), tmp_path_factory.mktemp("output")
    typed = [str(folder), *SMALL, "--output", str(output), "--name", "one"]
    for stage in (prepare, split, train, infer, submit):
        assert stage.main(typed) == 0
    roots = [output / folder.name / name for name in ("one", "two")]
    shutil.copytree(*roots)
    assert submit.main([*map(str, roots), "--folder", str(folder)]) == 0
    return [RunPaths(root) for root in (*roots, output / folder.name / "average")]


@pytest.fixture
def run(runs: list[RunPaths]) -> Iterator[RunPaths]:
    yield runs[0]
    runs[0].kaggle.unlink(missing_ok=True)


@pytest.fixture
def send(run: RunPaths) -> Callable[..., Submission]:
    """Return a function that sends the run, and returns its last entry in kaggle.json."""

    def send(*words: str) -> Submission:
        assert submit.main([str(run.root), "--kaggle", SLUG, "-m", "a first try", *words]) == 0
        return load_submissions(run)[-1]

    return send


def test_a_submission_is_sent_once_and_its_score_kept(
    service: Service, run: RunPaths, send: Callable[..., Submission], slept: list[float]
) -> None:
    service.states = [PENDING, PENDING, SCORED]
    sent = send()
    assert service.uploads == [run.submission.read_bytes()]
    assert (sent.slug, sent.message, sent.public, sent.private) == (SLUG, "a first try", 0.9321, None)
    assert (sent.status, sent.reference) == ("complete", 100)
    assert len(slept) == 2 and slept == sorted(slept) and slept[0] > 0
    assert scored_submission(run) == sent

    # once the contest has ended the same command tells the private score, and sends nothing
    service.submissions[0]["states"] = [{**SCORED, "privateScore": "0.91"}]
    assert send().private == 0.91
    assert len(service.uploads) == 1 and len(load_submissions(run)) == 1

    send("--again")
    assert len(service.uploads) == 2 and [entry.reference for entry in load_submissions(run)] == [100, 101]


def test_a_wait_that_was_killed_goes_on_without_sending(
    service: Service, send: Callable[..., Submission], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(seconds: float) -> None:
        raise KeyboardInterrupt

    service.states = [PENDING, SCORED]
    monkeypatch.setattr(time, "sleep", stop)
    with pytest.raises(KeyboardInterrupt):
        send()
    assert send().public == 0.9321 and len(service.uploads) == 1


@pytest.mark.parametrize("arrived", [True, False])
def test_a_command_killed_while_sending_finds_what_arrived(
    service: Service, run: RunPaths, send: Callable[..., Submission], arrived: bool
) -> None:
    send()
    (entry,) = load_submissions(run)
    save_submissions(run, [Submission(entry.when, entry.slug, entry.message, entry.digest)])
    if not arrived:
        service.submissions.clear()
    assert send().status == "complete"
    assert len(service.uploads) == (1 if arrived else 2) and len(load_submissions(run)) == 1


def test_a_service_without_numbers_is_asked_for_its_list(
    service: Service, send: Callable[..., Submission]
) -> None:
    service.gives_numbers = False
    assert send().reference == 100


@pytest.mark.parametrize(
    ("endpoint", "status", "message", "error", "keys"),
    [
        ("CreateSubmission", 400, "Your team has used its daily Submission allowance (5) today",
         InputError, ["allowance (5)", "tomorrow"]),
        ("StartSubmissionUpload", 400, "The competition deadline has passed", InputError, ["deadline"]),
        ("StartSubmissionUpload", 403, "You must accept the rules", InputError, [f"{SLUG}/rules"]),
        ("StartSubmissionUpload", 401, "Unauthenticated", InputError, ["KAGGLE_API_TOKEN"]),
        ("CreateSubmission", 500, "Internal error", MachineError, ["500", "Internal error"]),
        ("CreateSubmission", 400, "No id column", InputError, ["400", "No id column"]),
    ],
)  # fmt: skip
def test_a_refusal_is_told_in_the_words_of_kaggle(
    service: Service,
    run: RunPaths,
    send: Callable[..., Submission],
    endpoint: str,
    status: int,
    message: str,
    error: type[Exception],
    keys: list[str],
) -> None:
    service.refusals = {endpoint: (status, message)}
    with pytest.raises(error, match=naming(*keys)):
        send()
    # after a failure of the service nobody knows whether it arrived, so the next command looks
    assert [entry.status for entry in load_submissions(run)] == (["sending"] if error is MachineError else [])
    service.refusals = {}
    assert send().status == "complete" and len(load_submissions(run)) == 1


def test_an_upload_that_failed_is_repeated_by_the_same_command(
    service: Service, send: Callable[..., Submission]
) -> None:
    service.takes_uploads = False
    with pytest.raises(MachineError, match=naming(SLUG)):
        send()
    service.takes_uploads = True
    assert send().status == "complete" and len(service.submissions) == 1


def test_a_rejected_file_is_told_with_the_reason_and_not_sent_again(
    service: Service, run: RunPaths, send: Callable[..., Submission]
) -> None:
    service.states = [PENDING, {"status": "ERROR", "errorDescription": "Submission must have 6 rows"}]
    for _ in range(2):
        with pytest.raises(InputError, match=naming("Submission must have 6 rows", "--again")):
            send()
    (entry,) = load_submissions(run)
    assert (entry.status, entry.public, len(service.uploads)) == ("rejected", None, 1)
    assert scored_submission(run) is None


def test_a_score_that_does_not_come_is_waited_for_with_an_end(
    service: Service, send: Callable[..., Submission], slept: list[float]
) -> None:
    service.states = [PENDING]
    with pytest.raises(MachineError, match=naming(100, 60)):
        send()
    assert submitting.WAIT_SECONDS <= sum(slept) < 2 * submitting.WAIT_SECONDS
    service.submissions[0]["states"] = [SCORED]
    assert send().public == 0.9321 and len(service.uploads) == 1


def test_failures_while_waiting_are_waited_out(
    service: Service, send: Callable[..., Submission], monkeypatch: pytest.MonkeyPatch
) -> None:
    service.refusals = {"GetSubmission": (404, "Not found yet")}
    monkeypatch.setattr(time, "sleep", lambda seconds: service.refusals.clear())
    assert send().status == "complete"


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        ({"isKernelsSubmissionsOnly": True}, "notebook"),
        ({"submissionsDisabled": True}, "2026-12-24"),
        ({"userHasEntered": False}, "/rules"),
    ],
)
def test_a_contest_that_takes_no_file_is_refused_before_the_upload(
    service: Service, run: RunPaths, send: Callable[..., Submission], facts: dict[str, bool], key: str
) -> None:
    service.facts = facts
    with pytest.raises(InputError, match=naming(SLUG, key)):
        send()
    assert service.uploads == [] and not run.kaggle.exists()


def test_only_a_current_submission_is_sent(
    service: Service, runs: list[RunPaths], send: Callable[..., Submission]
) -> None:
    one, two, average = runs
    typed = ["--kaggle", SLUG, "-m", "the mean"]
    assert submit.main([str(average.root), *typed]) == 0
    assert service.uploads == [average.submission.read_bytes()]
    average.kaggle.unlink()

    for path, affected in ((one.submission, [one]), (one.test, [one, average])):
        before = path.read_bytes()
        path.write_bytes(before + b"\n")
        for run in affected:
            with pytest.raises(InputError, match=naming(run.root.name)):
                submit.main([str(run.root), *typed])
        path.write_bytes(before)
    for words, keys in (
        ([str(one.root), "--kaggle", SLUG], ["-m"]),
        ([str(one.root), str(two.root), *typed], ["RUN RUN"]),
        ([str(one.root), "-m", "text", "--kaggle"], ["--kaggle"]),
    ):
        with pytest.raises(InputError, match=naming(*keys)):
            submit.main(words)
    assert len(service.uploads) == 1
    assert send().status == "complete"


def test_credentials_are_neither_printed_nor_written(
    service: Service, stages: list[list[str]], send: Callable[..., Submission],
    run: RunPaths, capfd: pytest.CaptureFixture, tmp_path: Path,
) -> None:  # fmt: skip
    contest.main([SLUG])
    send()
    service.refusals = {"CreateSubmission": (400, "refused")}
    with pytest.raises(InputError) as caught:
        send("--again")
    written = [
        path.read_bytes() for root in (tmp_path, run.root) for path in root.rglob("*") if path.is_file()
    ]
    captured = capfd.readouterr()
    for text in (captured.out, captured.err, str(caught.value), *map(repr, written)):
        assert TOKEN not in text and "signature=" not in text
