"""What was read of a set-up. Whatever could not be read is a :class:`Problem` in its place."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003
from dataclasses import dataclass
from enum import Enum, auto


class Cause(Enum):
    """Why something could not be read."""

    NO_CREDENTIALS = auto()
    DENIED = auto()
    """403: no permission. Google says so also of a project that does not exist."""
    DISABLED = auto()
    """403: the API that answers it is not enabled."""
    ABSENT = auto()
    """404"""
    UNREACHABLE = auto()
    """No response, or one that says nothing about the set-up, such as a 503."""


@dataclass(frozen=True)
class Problem:
    """Something that could not be read.

    :param detail: what the service said, without the text that it quotes
    :param service: the API that is disabled, such as ``serviceusage.googleapis.com``
    """

    cause: Cause
    detail: str
    service: str = ""


@dataclass(frozen=True)
class Setup:
    """What to check.

    :param dataset: ``project.dataset``
    :param gcp_conn_id: Airflow connection; ``None`` for Application Default Credentials
    :param files_only: jobs read and write files; the dataset is for the results only
    """

    project: str
    location: str
    bucket: str
    dataset: str
    model: str
    gcp_conn_id: str | None = None
    files_only: bool = False


@dataclass(frozen=True)
class Caller:
    """Whose credentials these are.

    :param email: ``None`` if the credentials do not say
    """

    email: str | None
    is_user: bool = False

    @property
    def member(self) -> str:
        """The caller as ``gcloud`` takes it."""
        if self.email is None:
            # The shell of the user fills the first one in.
            return "user:$(gcloud config get-value account)" if self.is_user else "PRINCIPAL"
        return f"{'user' if self.is_user else 'serviceAccount'}:{self.email}"


@dataclass(frozen=True)
class Binding:
    """A role and its members, in an IAM policy or in the access list of a dataset."""

    role: str
    members: frozenset[str]
    is_conditional: bool = False


@dataclass(frozen=True)
class Dataset:
    """A dataset.

    :param access: who may do what by its own access list; empty if that may not be read
    """

    location: str
    access: tuple[Binding, ...] = ()


@dataclass(frozen=True)
class Facts:
    """All that was read.

    :param number: of the project
    :param enabled: of the APIs that jobs need, those that are enabled
    :param on_project: permissions that the caller has on the project
    :param on_bucket: likewise
    :param on_table: likewise, on some table of the dataset; ``None`` if it has none
    :param runs_queries: ``None`` if a dry run succeeded
    :param creates_tables: likewise, for a statement that creates a table in the dataset
    :param lists_jobs: ``None`` if the jobs of the location could be listed
    :param bucket: its location
    :param quotas: limits of Vertex AI a minute in the location, by metric
    """

    caller: Caller | Problem
    number: str | Problem
    enabled: frozenset[str] | Problem
    on_project: frozenset[str] | Problem
    on_bucket: frozenset[str] | Problem
    on_table: frozenset[str] | Problem | None
    runs_queries: Problem | None
    creates_tables: Problem | None
    lists_jobs: Problem | None
    bucket: str | Problem
    dataset: Dataset | Problem
    project_policy: tuple[Binding, ...] | Problem
    bucket_policy: tuple[Binding, ...] | Problem
    quotas: Mapping[str, int] | Problem
