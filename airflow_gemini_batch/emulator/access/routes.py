"""The methods of the access APIs, at ``/apis/HOST/PATH``. All of them only read.

What is not known of an error's wording is worded freely; codes, statuses and reasons are Google's.
"""

from __future__ import annotations

import json
import os
import re
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote

from airflow_gemini_batch.emulator.access.cloud import PROJECT, Cloud
from airflow_gemini_batch.emulator.behaviour import AS_ASSUMED
from airflow_gemini_batch.emulator.protocol.errors import (
    CallError,
    invalid_argument,
    unauthenticated,
    unknown_url,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_gemini_batch.emulator.behaviour import Behaviour
    from airflow_gemini_batch.emulator.routes import Call

PREFIX = "/apis/"
_AIPLATFORM = "aiplatform.googleapis.com"
_TIMEOUT_SECONDS = 10.0
_CREATES = re.compile(r"\s*CREATE TABLE `([^`]+)\.[^`.]+`", re.IGNORECASE)


def answer(call: Call, cloud: Cloud, behaviour: Behaviour = AS_ASSUMED) -> dict[str, Any]:
    """Return the body of the response.

    :param behaviour: what is done where nobody has published what the service does
    :raises CallError: when the response is an error
    """
    if not re.match(r"Bearer \S", call.headers.get("authorization", "")):
        raise unauthenticated()
    host, _, path = call.path.removeprefix(PREFIX).partition("/")
    for method, pattern, handle in _METHODS.get(host, ()):
        match = re.fullmatch(pattern, path)
        if match and method == call.method:
            if host != "www.googleapis.com":
                _check_enabled(host, cloud)
            return handle(_Asked(call, cloud, match.groupdict(), behaviour))
    raise unknown_url(call.path)


class _Asked:
    """A call, its project, and the parts of its path."""

    def __init__(self, call: Call, cloud: Cloud, parts: Mapping[str, str], behaviour: Behaviour) -> None:
        self.cloud = cloud
        self.behaviour = behaviour
        self.parts = parts
        self._call = call
        project = parts.get("project", cloud.project)
        if project not in (cloud.project, cloud.number):
            raise _denied(f"projects/{project}")

    @property
    def body(self) -> dict[str, Any]:
        parsed: dict[str, Any] = json.loads(self._call.content or b"{}")
        return parsed

    def repeated(self, name: str) -> list[str]:
        """The values of a query parameter that may occur several times."""
        return parse_qs(self._call.query_text).get(name, [])

    def check(self, permission: str, resource: str = PROJECT) -> None:
        if not self.cloud.may(permission, resource):
            raise _denied(resource, permission)


def _check_enabled(host: str, cloud: Cloud) -> None:
    if host not in cloud.enabled:
        info = {"reason": "SERVICE_DISABLED", "domain": "googleapis.com", "metadata": {"service": host}}
        text = f"{host} has not been used in project {cloud.number} before or it is disabled."
        raise CallError(403, "PERMISSION_DENIED", text, info=info)


def _denied(resource: str, permission: str = "") -> CallError:
    what = f"Permission '{permission}' denied" if permission else "The caller does not have permission"
    return CallError(403, "PERMISSION_DENIED", f"{what} on resource '{resource}' (or it may not exist).")


def _missing(what: str) -> CallError:
    return CallError(404, "NOT_FOUND", f"Not found: {what}")


def _project(asked: _Asked) -> dict[str, Any]:
    asked.check("resourcemanager.projects.get")
    cloud = asked.cloud
    return {"name": f"projects/{cloud.number}", "projectId": cloud.project, "state": "ACTIVE"}


def _userinfo(asked: _Asked) -> dict[str, Any]:
    kind, _, email = asked.cloud.caller.partition(":")
    if kind != "user":
        raise unauthenticated()
    return {"id": "1", "email": email, "verified_email": True}


def _tested(asked: _Asked, wanted: Iterable[str], resource: str) -> dict[str, Any]:
    held = [each for each in wanted if asked.cloud.may(each, resource)]
    return {"permissions": held} if held else {}


def _test_project(asked: _Asked) -> dict[str, Any]:
    return _tested(asked, asked.body.get("permissions", []), PROJECT)


def _bindings(cloud: Cloud, resource: str) -> dict[str, Any]:
    policy = cloud.policies.get(resource, {})
    return {"version": 1, "bindings": [{"role": r, "members": list(m)} for r, m in policy.items()]}


def _project_policy(asked: _Asked) -> dict[str, Any]:
    asked.check("resourcemanager.projects.getIamPolicy")
    return _bindings(asked.cloud, PROJECT)


def _services(asked: _Asked) -> dict[str, Any]:
    asked.check("serviceusage.services.get")
    names = asked.repeated("names")
    if not 1 <= len(names) <= 30:
        raise invalid_argument("Give 1 to 30 names.")
    number, enabled = asked.cloud.number, asked.cloud.enabled
    return {
        "services": [
            {
                "name": f"projects/{number}/services/{name.rsplit('/', 1)[-1]}",
                "parent": f"projects/{number}",
                "state": "ENABLED" if name.rsplit("/", 1)[-1] in enabled else "DISABLED",
            }
            for name in names
        ]
    }


def _quotas(asked: _Asked) -> dict[str, Any]:
    asked.check("serviceusage.quotas.get")
    found = []
    for name, limit in asked.cloud.quotas.items():
        metric = f"{_AIPLATFORM}/{name}"
        bucket = {"effectiveLimit": str(limit), "defaultLimit": str(limit)}
        one = {"metric": metric, "unit": "1/min/{project}/{region}", "quotaBuckets": [bucket]}
        found.append({"metric": metric, "displayName": name.replace("_", " "), "consumerQuotaLimits": [one]})
    return {"metrics": found}


def _bucket_location(asked: _Asked) -> str:
    name = asked.parts["bucket"]
    location = asked.cloud.buckets.get(name)
    if location is None:
        found = _real("STORAGE_EMULATOR_HOST", f"/storage/v1/b/{quote(name)}")
        location = str((found or {}).get("location") or "")
    if not location:
        raise _missing("The specified bucket does not exist.")
    return location


def _layout(asked: _Asked) -> dict[str, Any]:
    location, bucket = _bucket_location(asked), asked.parts["bucket"]
    asked.check("storage.objects.list", f"bucket/{bucket}")
    kind = "region" if "-" in location else "multi-region"
    return {"kind": "storage#storageLayout", "bucket": bucket, "location": location, "locationType": kind}


def _test_bucket(asked: _Asked) -> dict[str, Any]:
    _bucket_location(asked)
    tested = _tested(asked, asked.repeated("permissions"), f"bucket/{asked.parts['bucket']}")
    return {"kind": "storage#testIamPermissionsResponse", **tested}


def _bucket_policy(asked: _Asked) -> dict[str, Any]:
    _bucket_location(asked)
    resource = f"bucket/{asked.parts['bucket']}"
    asked.check("storage.buckets.getIamPolicy", resource)
    return {"kind": "storage#policy", **_bindings(asked.cloud, resource)}


def _dataset_id(asked: _Asked) -> str:
    return f"{asked.parts['project']}.{asked.parts['dataset']}"


def _dataset(asked: _Asked) -> dict[str, Any]:
    name = _dataset_id(asked)
    asked.check("bigquery.datasets.get", f"dataset/{name}")
    location = _dataset_location(asked.cloud, name)
    access = [
        {"role": role, "iamMember": member}
        for role, members in asked.cloud.policies.get(f"dataset/{name}", {}).items()
        for member in members
    ]
    project, _, dataset = name.partition(".")
    reference = {"projectId": project, "datasetId": dataset}
    return {"kind": "bigquery#dataset", "datasetReference": reference, "location": location, "access": access}


def _dataset_location(cloud: Cloud, name: str) -> str:
    location = cloud.datasets.get(name)
    if location is None:
        project, _, dataset = name.partition(".")
        path = f"/bigquery/v2/projects/{quote(project)}/datasets/{quote(dataset)}"
        location = str((_real("BIGQUERY_EMULATOR_HOST", path) or {}).get("location") or "")
    if not location:
        raise _missing(f"Dataset {name.replace('.', ':', 1)}")
    return location


def _tables(asked: _Asked) -> dict[str, Any]:
    name = _dataset_id(asked)
    asked.check("bigquery.tables.list", f"dataset/{name}")
    project, _, dataset = name.partition(".")
    found = [
        {"tableReference": {"projectId": project, "datasetId": dataset, "tableId": table}, "type": "TABLE"}
        for table in asked.cloud.tables.get(name, ())
    ]
    return {
        "kind": "bigquery#tableList",
        "totalItems": len(found),
        **({"tables": found[:1]} if found else {}),
    }


def _test_table(asked: _Asked) -> dict[str, Any]:
    return _tested(asked, asked.body.get("permissions", []), f"dataset/{_dataset_id(asked)}")


def _dry_run(asked: _Asked) -> dict[str, Any]:
    body = asked.body
    if body.get("dryRun") is not True:
        raise invalid_argument("Only dry runs are answered here.")
    asked.check("bigquery.jobs.create")
    location = str(body.get("location") or "US")
    if not asked.behaviour.takes_upper_case and "-" in location and location != location.lower():
        raise _missing(f"Location {location}")
    if creates := _CREATES.match(body["query"]):
        _dataset_location(asked.cloud, creates[1])
        asked.check("bigquery.tables.create", f"dataset/{creates[1]}")
    return {"kind": "bigquery#queryResponse", "jobComplete": True, "totalBytesProcessed": "0"}


def _real(variable: str, path: str) -> dict[str, Any] | None:
    """GET a resource from another emulator of the local stack; ``None`` if there is none."""
    host = os.environ.get(variable)
    if not host:
        return None
    url = f"{host if '://' in host else f'http://{host}'}{path}"
    request = urllib.request.Request(url, headers={"Authorization": "Bearer any"})  # noqa: S310  # loopback
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as response:
            found: dict[str, Any] = json.load(response)
            return found
    except urllib.error.HTTPError as error:
        error.close()
        return None


_OF_PROJECT = r"projects/(?P<project>[^/:]+)"
_BUCKET = r"storage/v1/b/(?P<bucket>[^/]+)"
_DATASET = rf"bigquery/v2/{_OF_PROJECT}/datasets/(?P<dataset>[^/]+)"
_METHODS: Mapping[str, tuple[tuple[str, str, Callable[[_Asked], dict[str, Any]]], ...]] = {
    "cloudresourcemanager.googleapis.com": (
        ("GET", rf"v3/{_OF_PROJECT}", _project),
        ("POST", rf"v3/{_OF_PROJECT}:testIamPermissions", _test_project),
        ("POST", rf"v3/{_OF_PROJECT}:getIamPolicy", _project_policy),
    ),
    "serviceusage.googleapis.com": (
        ("GET", rf"v1/{_OF_PROJECT}/services:batchGet", _services),
        ("GET", rf"v1beta1/{_OF_PROJECT}/services/{re.escape(_AIPLATFORM)}/consumerQuotaMetrics", _quotas),
    ),
    "www.googleapis.com": (("GET", r"oauth2/v2/userinfo", _userinfo),),
    "storage.googleapis.com": (
        ("GET", rf"{_BUCKET}/storageLayout", _layout),
        ("GET", rf"{_BUCKET}/iam/testPermissions", _test_bucket),
        ("GET", rf"{_BUCKET}/iam", _bucket_policy),
    ),
    "bigquery.googleapis.com": (
        ("GET", _DATASET, _dataset),
        ("GET", rf"{_DATASET}/tables", _tables),
        ("POST", rf"{_DATASET}/tables/[^/]+:testIamPermissions", _test_table),
        ("POST", rf"bigquery/v2/{_OF_PROJECT}/queries", _dry_run),
    ),
}
