"""What is read at the wire, and what cannot be sent."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.doctor import commands
from airflow_gemini_batch.doctor.facts import Binding, Caller, Cause, Problem, Setup
from airflow_gemini_batch.doctor.google_api import GoogleApi, problem_of
from airflow_gemini_batch.doctor.reading import _access, read_caller
from tests.doctor.clouds import BUCKET, DATASET, HEALTHY, NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_gemini_batch.emulator.server import Emulator

SETUP = Setup(NAME, "global", BUCKET, DATASET, "gemini-3.5-flash")


def of_user() -> Any:
    from google.oauth2.credentials import Credentials

    expiry = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)
    return Credentials("ya29.user", expiry=expiry)  # type: ignore[no-untyped-call]


@pytest.fixture
def api(emulator: Emulator) -> Iterator[GoogleApi]:
    made = GoogleApi(of_user())
    yield made
    made.close()


def test_a_user_is_asked_for_by_name(api: GoogleApi, emulator: Emulator) -> None:
    emulator.cloud = replace(HEALTHY, caller="user:ann@example.com")
    caller = read_caller(of_user(), api)
    assert caller == Caller("ann@example.com", is_user=True)
    assert isinstance(caller, Caller)
    assert caller.member == "user:ann@example.com"


def test_a_user_whose_name_is_not_told(api: GoogleApi) -> None:
    caller = read_caller(of_user(), api)
    assert caller == Caller(None, is_user=True)
    assert isinstance(caller, Caller)
    # The shell that runs the command fills it in, within its quotes.
    who = '"user:$(gcloud config get-value account)"'
    assert f"--member={who} " in commands.grant(SETUP, "roles/browser", "project", caller.member)
    sql = commands.grant(SETUP, "roles/bigquery.dataEditor", "dataset", caller.member)
    assert sql.endswith(f"TO \"'{who}'\"'")


def test_credentials_that_say_nothing(api: GoogleApi) -> None:
    from google.auth.credentials import AnonymousCredentials

    caller = read_caller(AnonymousCredentials(), api)
    assert caller == Caller(None)
    assert "--member=PRINCIPAL " in commands.grant(SETUP, "roles/browser", "project", Caller(None).member)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("v3/projects/p:setIamPolicy", {}),
        ("bigquery/v2/projects/p/queries", {"query": "SELECT 1"}),
        ("bigquery/v2/projects/p/queries", {"query": "SELECT 1", "dryRun": False}),
        ("bigquery/v2/projects/p/jobs", {"configuration": {"dryRun": True}}),
        ("v1/projects/p/services:batchEnable", {}),
    ],
)
def test_what_changes_something_is_never_sent(
    path: str, body: dict[str, Any], api: GoogleApi, emulator: Emulator
) -> None:
    with pytest.raises(ValueError, match="no method that only reads"):
        api.ask("x.googleapis.com", path, body)
    assert not emulator.requests


def test_no_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch, api: GoogleApi) -> None:
    monkeypatch.setenv("GEMINI_BATCH_APIS_URL", "http://127.0.0.1:9")
    found = api.get("storage.googleapis.com", "storage/v1/b/x")
    assert isinstance(found, Problem)
    assert found.cause is Cause.UNREACHABLE
    assert found.detail == "storage.googleapis.com gave no readable answer (ConnectionError)."


@pytest.mark.parametrize(
    ("code", "content", "cause"),
    [
        (401, {}, Cause.NO_CREDENTIALS),
        (403, {"error": {"message": "No"}}, Cause.DENIED),
        (404, {"error": {"message": "No"}}, Cause.ABSENT),
        (429, {"error": "text"}, Cause.UNREACHABLE),
        (503, ["a list"], Cause.UNREACHABLE),
        (403, {"error": {"details": "text"}}, Cause.DENIED),
        (403, {"error": {"details": [1, {"reason": "SERVICE_DISABLED"}]}}, Cause.DISABLED),
    ],
)
def test_errors(code: int, content: object, cause: Cause) -> None:
    found = problem_of(code, content, "x.googleapis.com")
    assert found.cause is cause
    assert found.detail.endswith(".")


@pytest.mark.parametrize(
    ("entry", "binding"),
    [
        (
            {"role": "WRITER", "userByEmail": "a@b.c"},
            Binding("WRITER", frozenset({"user:a@b.c", "serviceAccount:a@b.c"})),
        ),
        ({"role": "roles/x", "iamMember": "allUsers"}, Binding("roles/x", frozenset({"allUsers"}))),
        ({"role": "OWNER", "specialGroup": "projectOwners"}, Binding("OWNER", frozenset({"projectOwners"}))),
        (
            {"role": "roles/x", "groupByEmail": "g@b.c", "condition": {"expression": "true"}},
            Binding("roles/x", frozenset({"group:g@b.c"}), is_conditional=True),
        ),
        ({"view": {"projectId": "p"}}, None),
    ],
)
def test_the_access_list_of_a_dataset(entry: dict[str, Any], binding: Binding | None) -> None:
    assert _access(entry) == binding
