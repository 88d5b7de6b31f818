"""Credentials that Google's SDKs accept and that are worth nothing: a key made at run time."""

from __future__ import annotations

import json
from functools import lru_cache


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
    """Return a service account's key file as a dict.

    Anonymous credentials would not do: google-genai refreshes what it is given, and they cannot be refreshed.

    :param token_uri: where tokens are fetched, such as ``http://127.0.0.1:PORT/token`` of the emulator
    :param project: the project that the account pretends to belong to
    """
    return {
        "type": "service_account",
        "project_id": project,
        "private_key_id": "stand-in",
        "private_key": _private_key(),
        "client_email": f"stand-in@{project}.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    }


def connection_json(vertex_url: str, project: str) -> str:
    """Return the value of ``AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT`` that uses the emulator's tokens.

    :param vertex_url: ``Emulator.url``
    :param project: the connection's default project
    """
    extra = {"project": project, "keyfile_dict": service_account_info(f"{vertex_url}/token", project)}
    return json.dumps({"conn_type": "google_cloud_platform", "extra": extra})
