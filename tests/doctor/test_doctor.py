"""Each check of the doctor, red and green, against the emulator of the APIs that it reads."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.doctor.findings import Diagnosis, Finding, Status
from airflow_gemini_batch.emulator.protocol.schema import Discovery
from tests.doctor.clouds import (
    AGENT,
    ARGUMENTS,
    BARE,
    BROKEN,
    BUCKET,
    CALLER,
    DATASET,
    HEALTHY,
    changed,
    with_role,
    without,
)

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.access.cloud import Cloud
    from airflow_gemini_batch.emulator.server import Emulator
    from tests.doctor.conftest import Doctor

DISCOVERY = {
    "cloudresourcemanager.googleapis.com": ("cloudresourcemanager", "v3"),
    "serviceusage.googleapis.com": ("serviceusage", "v1"),
    "storage.googleapis.com": ("storage", "v1"),
    "bigquery.googleapis.com": ("bigquery", "v2"),
}
READER, LOOKER = "roles/storage.objectViewer", "roles/iam.securityReviewer"


def disabled(*names: str) -> Cloud:
    return changed(enabled=tuple(api for api in HEALTHY.enabled if api.partition(".")[0] not in names))


def grant(role: str, member: str = CALLER) -> str:
    rights = f"--member={member} --role={role} --condition=None"
    return f"gcloud projects add-iam-policy-binding local-project {rights}"


def on_bucket(role: str, member: str = CALLER) -> str:
    return f"gcloud storage buckets add-iam-policy-binding gs://my-bucket --member={member} --role={role}"


def on_dataset(member: str) -> str:
    sql = f'GRANT `roles/bigquery.dataEditor` ON SCHEMA `{DATASET}` TO "{member}"'
    return f"bq query --project_id=local-project --use_legacy_sql=false '{sql}'"


def enable(api: str) -> str:
    return f"gcloud services enable {api}.googleapis.com --project=local-project"


# By check: a set-up that breaks it, how it then ends, and the command that mends it.
RED: list[tuple[str, Cloud, str, str | None]] = [
    ("project", changed(policies={}), "unknown", grant("roles/browser")),
    ("project", disabled("cloudresourcemanager"), "unknown", enable("cloudresourcemanager")),
    *((f"api.{api}", disabled(api), "missing", enable(api)) for api in ("aiplatform", "bigquery", "storage")),
    (
        "api.storage",
        without("roles/serviceusage.serviceUsageViewer"),
        "unknown",
        grant("roles/serviceusage.serviceUsageViewer"),
    ),
    ("api.storage", disabled("serviceusage"), "unknown", enable("serviceusage")),
    ("caller.jobs", without("roles/aiplatform.user"), "missing", grant("roles/aiplatform.user")),
    ("caller.jobs", disabled("cloudresourcemanager"), "unknown", enable("cloudresourcemanager")),
    ("jobs.list", without("roles/aiplatform.user"), "missing", grant("roles/aiplatform.user")),
    ("jobs.list", disabled("aiplatform"), "missing", enable("aiplatform")),
    ("bucket", disabled("storage"), "unknown", enable("storage")),
    ("caller.read_objects", disabled("storage"), "unknown", enable("storage")),
    ("dataset", disabled("bigquery"), "unknown", enable("bigquery")),
    ("caller.queries", disabled("bigquery"), "missing", enable("bigquery")),
    (
        "bucket",
        changed(buckets={}),
        "missing",
        "gcloud storage buckets create gs://my-bucket --project=local-project --location=us-central1 "
        "--uniform-bucket-level-access",
    ),
    (
        "bucket",
        without(READER, cloud=without("roles/storage.objectUser")),
        "unknown",
        on_bucket(READER),
    ),
    (
        "bucket",
        changed(buckets={BUCKET: "EUROPE-WEST4"}),
        "missing",
        "bq --location=europe-west4 mk --dataset local-project:my_dataset_europe_west4",
    ),
    (
        "caller.read_objects",
        without(READER, cloud=without("roles/storage.objectUser")),
        "missing",
        on_bucket(READER),
    ),
    ("caller.read_objects", changed(buckets={}), "unknown", None),
    (
        "caller.write_objects",
        without("roles/storage.objectUser"),
        "missing",
        on_bucket("roles/storage.objectUser"),
    ),
    (
        "dataset",
        changed(datasets={}),
        "missing",
        "bq --location=us-central1 mk --dataset local-project:my_dataset",
    ),
    ("dataset", without("roles/bigquery.dataEditor"), "unknown", on_dataset(CALLER)),
    (
        "dataset",
        changed(datasets={DATASET: "US"}),
        "missing",
        "bq --location=us-central1 mk --dataset local-project:my_dataset_us_central1",
    ),
    ("caller.queries", without("roles/bigquery.jobUser"), "missing", grant("roles/bigquery.jobUser")),
    ("caller.create_tables", without("roles/bigquery.dataEditor"), "missing", on_dataset(CALLER)),
    ("caller.create_tables", without("roles/bigquery.jobUser"), "unknown", grant("roles/bigquery.jobUser")),
    (
        "agent.objects",
        without("roles/storage.objectAdmin", AGENT),
        "missing",
        on_bucket("roles/storage.objectAdmin", AGENT),
    ),
    ("agent.objects", without(LOOKER), "unknown", on_bucket("roles/storage.objectAdmin", AGENT)),
    (
        "agent.objects",
        with_role("projects/p/roles/own", AGENT, cloud=without("roles/storage.objectAdmin", AGENT)),
        "unknown",
        on_bucket("roles/storage.objectAdmin", AGENT),
    ),
    ("agent.tables", without("roles/bigquery.dataEditor", AGENT), "missing", on_dataset(AGENT)),
    (
        "agent.queries",
        without("roles/bigquery.jobUser", AGENT),
        "missing",
        grant("roles/bigquery.jobUser", AGENT),
    ),
    ("agent", changed(policies={}), "unknown", grant("roles/browser")),
    ("quotas", disabled("serviceusage"), "unknown", enable("serviceusage")),
    ("quotas", changed(quotas={"something_else": 5}), "unknown", None),
    (
        "quotas",
        changed(quotas={"job_submission_requests": 10}),
        "missing",
        "gcloud beta quotas info list --service=aiplatform.googleapis.com --project=local-project "
        "--format='table(quotaId,metric)'",
    ),
]


def test_a_healthy_setup(doctor: Doctor) -> None:
    code, text = doctor.text(HEALTHY)
    assert code == 0, text
    assert text.splitlines()[-1] == "All 19 checks passed."
    assert set(re.findall(r"^(\w+) ", text, re.M)) == {"ok", "All"}
    assert doctor.text(HEALTHY, "--strict")[0] == 0


def test_every_check_has_a_red_case(doctor: Doctor) -> None:
    checks = set(doctor.findings(HEALTHY))
    elsewhere = {"credentials", "model", "caller.tables"}
    assert checks == ({check for check, *_ in RED} - {"agent"}) | elsewhere


@pytest.mark.parametrize(
    ("check", "cloud", "status", "command"), RED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_red(check: str, cloud: Cloud, status: str, command: str | None, doctor: Doctor) -> None:
    found = doctor.findings(cloud)[check]
    assert (found["status"], found["command"]) == (status, command), found
    assert found["detail"].endswith(".")


def test_the_tables_of_a_dataset(doctor: Doctor) -> None:
    """With a role that creates tables, and none that writes to those of others."""
    assert "caller.tables" not in doctor.findings(changed(tables={}))
    found = doctor.findings(without("roles/bigquery.dataEditor"))
    assert "caller.tables" not in found  # They cannot be listed either.


@pytest.mark.parametrize("granted", ["roles/aiplatform.serviceAgent", "roles/editor"])
def test_the_own_role_of_the_service_agent_is_enough(granted: str, doctor: Doctor) -> None:
    bare = without("roles/storage.objectAdmin", AGENT)
    for role in ("roles/bigquery.dataEditor", "roles/bigquery.jobUser"):
        bare = without(role, AGENT, bare)
    found = doctor.findings(with_role(granted, AGENT, cloud=bare))
    for check in ("agent.objects", "agent.tables", "agent.queries"):
        assert found[check]["status"] == "ok"
        assert granted in found[check]["detail"]


def test_jobs_that_use_files_only(doctor: Doctor) -> None:
    found = doctor.findings(changed(datasets={DATASET: "US"}), "--files-only")
    assert found["dataset"]["status"] == "ok"
    assert "agent.tables" not in found


@pytest.mark.parametrize(
    ("model", "location", "status", "words"),
    [
        ("gemini-3.5-flash", "us", "ok", "offered there"),
        ("gemini-3.5-flash", "us-central1", "missing", "is not offered in"),
        ("gemini-2.0-flash", "global", "missing", "closed|retired|switched off"),
        ("gemini-99-flash", "global", "unknown", "not in the list|did you mean|nothing is known"),
        ("projects/p/locations/us-central1/models/1", "us-central1", "ok", "tuned"),
        ("projects/p/locations/us-central1/models/1", "global", "missing", "never in global"),
    ],
)
def test_models(model: str, location: str, status: str, words: str, doctor: Doctor) -> None:
    found = doctor.findings(HEALTHY, "--model", model, "--location", location)["model"]
    assert found["status"] == status, found
    assert re.search(words, found["detail"]), found


@pytest.mark.parametrize(
    ("location", "dataset", "status"),
    [
        ("global", "europe-west4", "ok"),
        ("us", "us-central1", "unknown"),
        ("us", "europe-west4", "missing"),
        ("eu", "europe-west4", "unknown"),
        ("us-central1", "US", "missing"),
        ("us-central1", "us-central1", "ok"),
    ],
)
def test_places(location: str, dataset: str, status: str, doctor: Doctor) -> None:
    cloud = changed(datasets={DATASET: dataset}, buckets={BUCKET: dataset.upper()})
    found = doctor.findings(cloud, "--location", location)
    assert found["dataset"]["status"] == status, found["dataset"]
    assert found["bucket"]["status"] == "ok", found["bucket"]


def test_nothing_is_granted(doctor: Doctor) -> None:
    """The emulator refuses whatever was not granted."""
    found = doctor.findings(replace(BARE, guards_jobs=True))
    assert {name for name, each in found.items() if each["status"] == "ok"} == {"credentials", "model"}


def test_a_broken_setup(doctor: Doctor) -> None:
    code, text = doctor.text(BROKEN)
    assert code == 1
    assert "missing  API aiplatform.googleapis.com: It is not enabled.\n         gcloud services" in text
    assert text.splitlines()[-1] == "13 checks passed, 6 found something missing."


def test_unknown_fails_only_if_asked_to(doctor: Doctor) -> None:
    cloud = without(LOOKER)
    code, text = doctor.text(cloud)
    assert code == 0
    assert "could not be decided" in text
    assert doctor.text(cloud, "--strict")[0] == 1


@pytest.mark.parametrize(("check", "code"), [("credentials", 1), ("jobs.list", 1), ("quotas", 0)])
def test_a_service_that_is_not_reached_fails(check: str, code: int) -> None:
    """A script must not take it for a set-up that is in order."""
    finding = Finding(check, "title", Status.UNKNOWN, "It was not reached.")
    assert Diagnosis((finding,)).exit_code(strict=False) == code


def test_a_command_is_printed_once(doctor: Doctor) -> None:
    _, text = doctor.text(BROKEN)
    commands = [line for line in text.splitlines() if line.startswith("         ")]
    assert len(commands) == 6
    own = [line for line in commands if "same command as above" not in line]
    assert len(own) == len(set(own)) == 4


def test_only_reads(doctor: Doctor, emulator: Emulator) -> None:
    for cloud in (HEALTHY, BROKEN, BARE):
        doctor.text(cloud)
    assert len(emulator.requests) > 30
    for request in emulator.requests:
        if request.method == "GET" or request.path == "/token":
            continue
        is_question = request.path.endswith((":testIamPermissions", ":getIamPolicy"))
        is_dry_run = request.path.endswith("/queries") and request.body["dryRun"] is True
        assert is_question or is_dry_run, request


def test_the_emulator_answers_as_googles_descriptions_say(doctor: Doctor, emulator: Emulator) -> None:
    doctor.text(HEALTHY)
    seen = [request for request in emulator.requests if request.path.startswith("/apis/")]
    assert len(seen) >= 13
    for request in seen:
        host, _, path = request.path.removeprefix("/apis/").partition("/")
        api, version = DISCOVERY[host]
        discovery = Discovery.load(api, "v1beta1" if path.startswith("v1beta1/") else version)
        method = discovery.method(
            request.method, re.sub(r"(?<=projects)/local-project(?=/services)", "/x", path)
        )
        if api == "serviceusage":
            method = next(each for each in discovery.methods if each.id.endswith(_service_method(path)))
        assert method, path
        assert set(request.query) <= set(method.query), request
        assert method.response
        assert discovery.violations(method.response, request.answer, strict=True) == [], path


def _service_method(path: str) -> str:
    # Its description leaves the kinds of consumers open, so that no path matches.
    return "consumerQuotaMetrics.list" if path.endswith("consumerQuotaMetrics") else "services.batchGet"


def test_no_secrets(doctor: Doctor) -> None:
    for cloud in (HEALTHY, BROKEN, BARE):
        for more in ((), ("--json",)):
            _, text = doctor.text(cloud, *more)
            assert "ya29" not in text
            assert "PRIVATE KEY" not in text
            assert "127.0.0.1" not in text


def test_no_credentials_is_a_finding(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    assert main(ARGUMENTS[:-2]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("missing  credentials of this machine: There are none: ")
    assert "gcloud auth application-default login" in out
    assert "Traceback" not in out + err
    assert not emulator.requests


def test_an_unknown_connection_is_a_finding(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS[:-1], "no_such_connection"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("missing  Airflow connection no_such_connection: There are none: ")
    assert not emulator.requests


def test_a_refused_key_is_a_finding(doctor: Doctor, emulator: Emulator) -> None:
    from airflow_gemini_batch.emulator.faults.plan import CallFault, CallFaultKind, FaultPlan, Route

    emulator.faults = FaultPlan(calls=[CallFault(route=Route.TOKEN, kind=CallFaultKind.STATUS, status=400)])
    code, text = doctor.text(HEALTHY)
    assert code == 1
    assert (
        "missing  Airflow connection google_cloud_default: No access token was issued (RefreshError)." in text
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--project", "a project"),
        ("--location", "us/../x"),
        ("--location", "us-centrl1"),
        ("--bucket", "gs://my-bucket/folder"),
        ("--dataset", "a.b.c.d/e"),
        ("--model", "a model"),
    ],
)
def test_wrong_usage(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ARGUMENTS, name, value]) == 2
    assert f"gemini-batch doctor: {name}={value!r}" in capsys.readouterr().err


def test_json(doctor: Doctor) -> None:
    code, text = doctor.text(BROKEN, "--json")
    found = json.loads(text)
    assert code == 1
    assert found["summary"] == {"ok": 13, "missing": 6, "unknown": 0}
    assert set(found["findings"][0]) == {"check", "title", "status", "detail", "command"}
