"""The private attributes that the hook uses still exist; run with every release of the SDK that is locked."""

from __future__ import annotations

import inspect

PARAMETERS = ["http_method", "path", "request_dict", "http_options"]


def test_the_sdk_still_has_the_request_method_that_reads_resources_as_sent() -> None:
    from google import genai
    from google.auth.credentials import AnonymousCredentials

    missing = (
        f"google-genai {genai.__version__} no longer has BaseApiClient.request({', '.join(PARAMETERS)}) "
        "behind Client._api_client. Find another way for hooks/sdk.py to read resources as the service sends "
        "them, or cap google-genai in pyproject.toml."
    )
    client = genai.Client(
        vertexai=True, project="p", location="us-central1", credentials=AnonymousCredentials()
    )
    request = getattr(getattr(client, "_api_client", None), "request", None)
    assert callable(request), missing
    assert list(inspect.signature(request).parameters) == PARAMETERS, missing


def test_the_google_provider_still_caches_credentials_where_the_hook_drops_them() -> None:
    from airflow.providers.google import __version__
    from airflow.providers.google.common.hooks.base_google import GoogleBaseHook

    assert vars(GoogleBaseHook()).get("_cached_credentials", "missing") is None, (
        f"apache-airflow-providers-google {__version__} no longer caches credentials in "
        "GoogleBaseHook._cached_credentials, which GeminiBatchHook resets when it builds a client."
    )
