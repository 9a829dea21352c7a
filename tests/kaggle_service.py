"""A stand-in for Kaggle's service, behind the interface of its client or behind its HTTP endpoints.

`Service` knows one contest. `stand_in` puts modules in front of it that are named as those of the client, so
that tests need no package. `serve` answers the endpoints that the real client asks, on this machine:

    POST /v1/security.OAuthService/IntrospectToken
    POST /v1/competitions.CompetitionApiService/GetCompetition, DownloadDataFiles (redirects to GET /files),
         StartSubmissionUpload (answers with PUT /upload), CreateSubmission, GetSubmission, ListSubmissions
"""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SLUG, TOKEN = "birds-2026", "KGAT_secret-of-the-person"
SCORED = {"status": "COMPLETE", "publicScore": "0.93210"}
API = "competitions.CompetitionApiService"


class Refused(OSError):
    """An answer with an HTTP error, as an exception of requests is one: without an error number."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        body = {"code": status, "message": message}
        self.response = SimpleNamespace(status_code=status, reason="refused", json=lambda: body)


@dataclass
class Service:
    """The state of the service, and how it behaves.

    `refusals` are (status, message) by endpoint. `states` are the answers for a new submission, one a
    question; the last one stays. `is_cut` ends every delivery at half of the archive.
    """

    archives: list[bytes] = field(default_factory=list)  # those of the next downloads; the last one stays
    facts: dict[str, Any] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    states: list[dict[str, Any]] = field(default_factory=lambda: [SCORED])
    is_cut: bool = False
    has_credentials: bool = True
    gives_numbers: bool = True
    takes_uploads: bool = True
    calls: list[str] = field(default_factory=list)
    delivered: list[int] = field(default_factory=list)  # first byte of each delivery
    submissions: list[dict[str, Any]] = field(default_factory=list)
    uploads: list[bytes] = field(default_factory=list)

    def answer(self, endpoint: str, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of an endpoint. Raise Refused."""
        self.calls.append(endpoint)
        if endpoint in self.refusals:
            raise Refused(*self.refusals[endpoint])
        if endpoint == "GetSubmission":
            return self.state_of(request["ref"])
        if request["competitionName"] != SLUG:
            raise Refused(404, "The requested competition was not found")
        if endpoint == "GetCompetition":
            return {
                "title": "Birds of 2026",
                "deadline": "2026-12-24T23:59:00Z",
                "maxDailySubmissions": 5,
                "evaluationMetric": "Categorization Accuracy",
                "userHasEntered": True,
                **self.facts,
            }
        if endpoint == "CreateSubmission":
            self.add(request["submissionDescription"])
            message = "Successfully submitted to Birds of 2026"
            return (
                {"message": message, "ref": self.submissions[0]["ref"]}
                if self.gives_numbers
                else {"message": message}
            )
        assert endpoint == "ListSubmissions"
        return {"submissions": self.submissions}

    def add(self, description: str) -> None:
        """Add a submission, as the newest one."""
        date = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        new = {"ref": 100 + len(self.submissions), "description": description, "fileName": "submission.csv"}
        self.submissions.insert(0, {**new, "date": date, "states": list(self.states)})

    def state_of(self, ref: int) -> dict[str, Any]:
        found = next(entry for entry in self.submissions if entry["ref"] == ref)
        states = found["states"]
        return {"ref": ref, **(states.pop(0) if len(states) > 1 else states[0])}

    def deliver(self, start: int) -> tuple[bytes, int]:
        """Return the bytes of the archive from `start` on, as far as they arrive, and its length."""
        archive = self.archives[0]
        self.delivered.append(start)
        end = len(archive) // 2 if self.is_cut else len(archive)
        if not self.is_cut and len(self.archives) > 1:
            self.archives.pop(0)
        return archive[start:end], len(archive)


# --- the interface of the client


class Client:
    """What is used of `KaggleApi`."""

    COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE = "Could not submit to competition"

    def __init__(self, service: Service) -> None:
        self.service = service

    def authenticate(self) -> None:
        if not self.service.has_credentials:
            print("Authentication required to call the Kaggle API.")
            sys.exit(1)

    @contextmanager
    def build_kaggle_client(self) -> Iterator[SimpleNamespace]:
        client = SimpleNamespace(
            get_competition=lambda request: _named(self._call("GetCompetition", request.competition_name)),
            download_data_files=self._download,
        )
        yield SimpleNamespace(
            competitions=SimpleNamespace(competition_api_client=client), http_client=lambda: None
        )

    def _call(self, endpoint: str, slug: str, **words: object) -> dict[str, Any]:
        return self.service.answer(endpoint, {"competitionName": slug, **words})

    def _download(self, request: Any) -> SimpleNamespace:
        self.service.calls.append("DownloadDataFiles")
        return SimpleNamespace(headers={"Content-Length": str(len(self.service.archives[0]))})

    def download_file(
        self, response: Any, outfile: str, http_client: None, quiet: bool, resume: bool
    ) -> None:
        path = Path(outfile)
        present = path.stat().st_size if path.is_file() and resume else 0
        content, length = self.service.deliver(present)
        with path.open("ab" if present else "wb") as file:
            file.write(content)
        if path.stat().st_size < length:
            raise OSError("connection broken")

    def competition_submit(self, file_name: str, message: str, competition: str, quiet: bool) -> Any:
        if "StartSubmissionUpload" in self.service.refusals:
            raise Refused(*self.service.refusals["StartSubmissionUpload"])
        if not self.service.takes_uploads:
            return SimpleNamespace(message=self.COMPETITION_SUBMIT_UPLOAD_FAILED_MESSAGE, ref=0)
        self.service.uploads.append(Path(file_name).read_bytes())
        return _named(self._call("CreateSubmission", competition, submissionDescription=message))

    def get_submission(self, reference: int) -> Any:
        return _named(self._call("GetSubmission", SLUG, ref=reference))

    def competition_submissions(self, competition: str) -> list[Any]:
        return [_named(entry) for entry in self._call("ListSubmissions", competition)["submissions"]]


def _named(answer: dict[str, Any]) -> SimpleNamespace:
    """Return an answer as the client does: an object with snake_case names, times and statuses."""
    names = {
        "title": "title", "evaluation_metric": "evaluationMetric", "deadline": "deadline", "ref": "ref",
        "max_daily_submissions": "maxDailySubmissions", "user_has_entered": "userHasEntered", "date": "date",
        "is_kernels_submissions_only": "isKernelsSubmissionsOnly", "file_name": "fileName",
        "submissions_disabled": "submissionsDisabled", "description": "description", "status": "status",
        "error_description": "errorDescription", "public_score": "publicScore", "message": "message",
        "private_score": "privateScore",
    }  # fmt: skip
    values = {name: answer.get(key) for name, key in names.items()}
    for name in ("deadline", "date"):
        if values[name]:
            values[name] = datetime.fromisoformat(values[name]).replace(tzinfo=None)
    values["ref"] = values["ref"] or 0
    values["status"] = SimpleNamespace(name=values["status"])
    return SimpleNamespace(**values)


def stand_in(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put modules in place of the client's, as if it were installed."""
    types = "kagglesdk.competitions.types.competition_api_service"
    extended = "kaggle.api.kaggle_api_extended"
    for name in (types, extended):
        words = name.split(".")
        for end in range(1, len(words) + 1):
            monkeypatch.setitem(sys.modules, ".".join(words[:end]), ModuleType(".".join(words[:end])))
    sys.modules[extended].KaggleApi = lambda: Client(service)
    for request in ("ApiGetCompetitionRequest", "ApiDownloadDataFilesRequest"):
        setattr(sys.modules[types], request, SimpleNamespace)


# --- the HTTP endpoints


def serve(service: Service, monkeypatch: pytest.MonkeyPatch, home: Path) -> ThreadingHTTPServer:
    """Start a server, and make the real client ask it, with TOKEN; return the server."""
    environment = pytest.importorskip("kagglesdk.kaggle_env", reason="the package kaggle is not installed")

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            endpoint = self.path.removeprefix(f"/v1/{API}/")
            if endpoint == "/v1/security.OAuthService/IntrospectToken":
                self.reply({"active": request["token"] == TOKEN, "username": "somebody"})
            elif self.headers["Authorization"] != f"Bearer {TOKEN}":
                self.reply({"code": 401, "message": "Unauthenticated"}, 401)
            elif endpoint == "DownloadDataFiles":
                service.calls.append(endpoint)
                self.send_response(302)
                self.send_header("Location", f"{address}/files/birds.zip?signature=signed")
                self.end_headers()
            elif endpoint == "StartSubmissionUpload" and endpoint not in service.refusals:
                self.reply({"token": "blob", "createUrl": f"{address}/upload?signature=signed"})
            else:
                try:
                    self.reply(service.answer(endpoint, request))
                except Refused as error:
                    self.reply(error.response.json(), error.response.status_code)

        def do_GET(self) -> None:
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
            content, length = service.deliver(start)
            self.send_response(206 if start else 200)
            for name, value in (
                ("Content-Length", length - start),
                ("Accept-Ranges", "bytes"),
                ("ETag", '"one"'),
                ("Last-Modified", "Wed, 01 Jul 2026 00:00:00 GMT"),
            ):
                self.send_header(name, str(value))
            self.end_headers()
            self.wfile.write(content)

        def do_PUT(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if service.takes_uploads:
                service.uploads.append(content)
            self.reply({}, 200 if service.takes_uploads else 400)

        def reply(self, answer: dict[str, Any], status: int = 200) -> None:
            body = json.dumps(answer, default=str).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for variable in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("KAGGLE_API_TOKEN", TOKEN)
    monkeypatch.setitem(environment._env_to_endpoint, environment.KaggleEnv.PROD, address)
    return server
