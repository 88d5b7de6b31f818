"""An auth manager whose users may read the DAGs whose IDs begin with their names."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager


class OwnDagsOnly(SimpleAuthManager):
    def filter_authorized_dag_ids(self, *, dag_ids: set[str], user: Any, **_: Any) -> set[str]:
        return {dag_id for dag_id in dag_ids if dag_id.startswith(user.username)}
