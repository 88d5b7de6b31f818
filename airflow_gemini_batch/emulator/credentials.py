"""Fake credentials that Google's SDKs accept; their key is generated at run time."""

from __future__ import annotations

import json
import shlex
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@lru_cache(maxsize=1)
def _private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


def service_account_info(token_uri: str, project: str) -> dict[str, str]:
    """Return the content of a service account key file.

    Anonymous credentials do not work here: google-genai refreshes its credentials,
    and they cannot be refreshed.

    :param token_uri: token endpoint, such as the emulator's ``http://127.0.0.1:PORT/SECRET/token``
    :param project: project id of the account
    """
    return {
        "type": "service_account",
        "project_id": project,
        # Airflow masks this value wherever it logs it, so it must be no word.
        "private_key_id": "0" * 40,
        "private_key": _private_key(),
        "client_email": f"emulator@{project}.iam.gserviceaccount.com",
        # Airflow warns about values in a connection that are too short to be masked.
        "client_id": "100000000000000000001",
        "token_uri": token_uri,
    }


def exports(environment: Mapping[str, str]) -> str:
    """Return a shell script that sets variables, for a file: the connection has a private key."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def connection_json(vertex_url: str, project: str) -> str:
    """Return a value for ``AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT`` that gets its tokens from the emulator.

    :param vertex_url: ``Emulator.url``
    :param project: the connection's default project
    """
    extra = {"project": project, "keyfile_dict": service_account_info(f"{vertex_url}/token", project)}
    return json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
