"""Reads the facts of a set-up, without changing anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from airflow_gemini_batch.doctor.facts import Binding, Caller, Cause, Dataset, Facts, Problem
from airflow_gemini_batch.doctor.needs import APIS, READ_OBJECTS, USE_JOBS, WRITE_OBJECTS, WRITE_TABLES
from airflow_gemini_batch.exceptions import ApiError, GeminiBatchError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from google.auth.credentials import Credentials

    from airflow_gemini_batch.batch_job import JobPage
    from airflow_gemini_batch.doctor.facts import Setup
    from airflow_gemini_batch.doctor.google_api import GoogleApi

_PROJECTS = "cloudresourcemanager.googleapis.com"
_SERVICES = "serviceusage.googleapis.com"
_STORAGE = "storage.googleapis.com"
_BIGQUERY = "bigquery.googleapis.com"
_ACCOUNTS = "www.googleapis.com"
# Of an entry in the access list of a dataset: the member, and how gcloud writes its kind.
_MEMBERS = {"groupByEmail": "group:", "domain": "domain:", "specialGroup": "", "iamMember": ""}


class Jobs(Protocol):
    """What is asked of Vertex AI itself; :class:`GeminiBatchHook` implements it."""

    def list_page(
        self, project: str, location: str, query: Mapping[str, Any], *, retry: bool = True
    ) -> JobPage:
        """List one page of jobs."""
        ...


def read_facts(setup: Setup, api: GoogleApi, jobs: Jobs, credentials: Credentials) -> Facts:
    """Read all facts; takes about fifteen requests."""
    caller = read_caller(credentials, api)
    if isinstance(caller, Problem):
        return nothing_read(caller)
    project = f"projects/{quote(setup.project)}"
    can_query = _dry_run(setup, api, "SELECT 1")
    dataset = _dataset(setup, api)
    return Facts(
        caller=caller,
        number=_number(api.get(_PROJECTS, f"v3/{project}")),
        enabled=_enabled(api.get(_SERVICES, f"v1/{project}/services:batchGet", _names(project))),
        on_project=_held(
            api.ask(_PROJECTS, f"v3/{project}:testIamPermissions", _permissions(USE_JOBS.permissions))
        ),
        on_bucket=_held(
            api.get(
                _STORAGE,
                f"storage/v1/b/{quote(setup.bucket)}/iam/testPermissions",
                _permissions(READ_OBJECTS.permissions | WRITE_OBJECTS.permissions),
            )
        ),
        on_table=_on_table(setup, api),
        runs_queries=can_query,
        creates_tables=can_query or _creates_tables(setup, api),
        lists_jobs=_lists_jobs(setup, jobs),
        bucket=_location(api.get(_STORAGE, f"storage/v1/b/{quote(setup.bucket)}/storageLayout")),
        dataset=dataset,
        project_policy=_policy(
            api.ask(_PROJECTS, f"v3/{project}:getIamPolicy", {"options": {"requestedPolicyVersion": 3}})
        ),
        bucket_policy=_policy(
            api.get(_STORAGE, f"storage/v1/b/{quote(setup.bucket)}/iam", {"optionsRequestedPolicyVersion": 3})
        ),
        quotas=_quotas(setup, api),
    )


def nothing_read(problem: Problem) -> Facts:
    """Return the facts where there are no credentials."""
    return Facts(
        **dict.fromkeys(
            (
                *("caller", "number", "enabled", "on_project", "on_bucket", "on_table", "runs_queries"),
                *("creates_tables", "lists_jobs", "bucket", "dataset", "project_policy", "bucket_policy"),
                "quotas",
            ),
            problem,
        )
    )


def read_caller(credentials: Credentials, api: GoogleApi) -> Caller | Problem:
    """Return whose credentials these are. Asks for an access token, and of a user for the e-mail address."""
    from google.auth.exceptions import GoogleAuthError
    from google.auth.transport.requests import Request
    from google.oauth2.credentials import Credentials as UserCredentials

    try:
        if not credentials.valid:
            credentials.refresh(Request())  # type: ignore[no-untyped-call]
    except GoogleAuthError as error:
        cause = Cause.UNREACHABLE if error.retryable else Cause.NO_CREDENTIALS
        # The text of the error may have the whole response of the token server.
        return Problem(cause, f"No access token was issued ({type(error).__name__}).")
    email = getattr(credentials, "service_account_email", None)
    if isinstance(email, str) and "@" in email:
        return Caller(email)
    if not isinstance(credentials, UserCredentials):
        return Caller(None)  # Such as those of a workload of another cloud.
    # Credentials from `gcloud auth application-default login` do not say whose they are.
    found = api.get(_ACCOUNTS, "oauth2/v2/userinfo")
    address = None if isinstance(found, Problem) else found.get("email")
    return Caller(address if isinstance(address, str) else None, is_user=True)


def _names(project: str) -> dict[str, list[str]]:
    return {"names": [f"{project}/services/{api}" for api in APIS]}


def _permissions(names: Iterable[str]) -> dict[str, list[str]]:
    return {"permissions": sorted(names)}


def _number(found: dict[str, Any] | Problem) -> str | Problem:
    return found if isinstance(found, Problem) else str(found.get("name", "")).rpartition("/")[2]


def _enabled(found: dict[str, Any] | Problem) -> frozenset[str] | Problem:
    if isinstance(found, Problem):
        return found
    services = found.get("services") or []
    return frozenset(each["name"].rpartition("/")[2] for each in services if each.get("state") == "ENABLED")


def _held(found: dict[str, Any] | Problem) -> frozenset[str] | Problem:
    return found if isinstance(found, Problem) else frozenset(found.get("permissions") or ())


def _location(found: dict[str, Any] | Problem) -> str | Problem:
    return found if isinstance(found, Problem) else str(found.get("location") or "")


def _policy(found: dict[str, Any] | Problem) -> tuple[Binding, ...] | Problem:
    if isinstance(found, Problem):
        return found
    return tuple(
        Binding(str(each.get("role")), frozenset(each.get("members") or ()), bool(each.get("condition")))
        for each in found.get("bindings") or ()
    )


def _dataset_path(setup: Setup) -> str:
    project, _, dataset = setup.dataset.rpartition(".")
    return f"bigquery/v2/projects/{quote(project)}/datasets/{quote(dataset)}"


def _dataset(setup: Setup, api: GoogleApi) -> Dataset | Problem:
    found = api.get(_BIGQUERY, _dataset_path(setup))
    if isinstance(found, Problem):
        return found
    bindings = [_access(entry) for entry in found.get("access") or ()]
    return Dataset(str(found.get("location") or "US"), tuple(filter(None, bindings)))


def _access(entry: Mapping[str, Any]) -> Binding | None:
    """Parse an entry of an access list; ``None`` for a view, a routine or another dataset."""
    members = [f"{kind}{entry[name]}" for name, kind in _MEMBERS.items() if entry.get(name)]
    if email := entry.get("userByEmail"):
        members += [f"user:{email}", f"serviceAccount:{email}"]
    if not (members and entry.get("role")):
        return None
    return Binding(str(entry["role"]), frozenset(members), bool(entry.get("condition")))


def _on_table(setup: Setup, api: GoogleApi) -> frozenset[str] | Problem | None:
    """Return what the caller may do with some table: BigQuery tests no permissions on datasets."""
    path = _dataset_path(setup)
    found = api.get(_BIGQUERY, f"{path}/tables", {"maxResults": 1})
    if isinstance(found, Problem) or not found.get("tables"):
        return None
    table = quote(found["tables"][0]["tableReference"]["tableId"])
    body = _permissions(WRITE_TABLES.permissions)
    return _held(api.ask(_BIGQUERY, f"{path}/tables/{table}:testIamPermissions", body))


def _dry_run(setup: Setup, api: GoogleApi, sql: str) -> Problem | None:
    body = {"query": sql, "useLegacySql": False, "dryRun": True}
    found = api.ask(_BIGQUERY, f"bigquery/v2/projects/{quote(setup.project)}/queries", body)
    return found if isinstance(found, Problem) else None


def _creates_tables(setup: Setup, api: GoogleApi) -> Problem | None:
    sql = f"CREATE TABLE `{setup.dataset}.gemini_batch_doctor` AS SELECT 1 AS n"
    return _dry_run(setup, api, sql)


def _lists_jobs(setup: Setup, jobs: Jobs) -> Problem | None:
    try:
        jobs.list_page(setup.project, setup.location, {"pageSize": 1}, retry=False)
    except ApiError as error:
        cause = {403: Cause.DENIED, 404: Cause.ABSENT}.get(error.code, Cause.UNREACHABLE)
        return Problem(cause, f"Vertex AI returned {error.code}: {error.message}")
    except GeminiBatchError as error:
        return Problem(Cause.UNREACHABLE, str(error))
    return None


def _quotas(setup: Setup, api: GoogleApi) -> dict[str, int] | Problem:
    """Read the limits of Vertex AI that hold for a minute, in the location or, if it has none, in general."""
    path = f"v1beta1/projects/{quote(setup.project)}/services/{APIS[0]}/consumerQuotaMetrics"
    limits: dict[str, int] = {}
    token = ""
    while True:
        query = {"pageSize": 500, "view": "BASIC"} | ({"pageToken": token} if token else {})
        found = api.get(_SERVICES, path, query)
        if isinstance(found, Problem):
            return found
        for metric in found.get("metrics") or ():
            for limit in metric.get("consumerQuotaLimits") or ():
                if "/min/" in str(limit.get("unit")):
                    _add_limit(limits, str(metric.get("metric")), limit, setup.location)
        token = str(found.get("nextPageToken") or "")
        if not token:
            return limits


def _add_limit(limits: dict[str, int], metric: str, limit: Mapping[str, Any], location: str) -> None:
    for bucket in limit.get("quotaBuckets") or ():
        region = (bucket.get("dimensions") or {}).get("region")
        if region in (None, location):  # The buckets are ordered: that of the region comes later.
            limits[metric.rpartition("/")[2]] = int(bucket.get("effectiveLimit") or 0)
