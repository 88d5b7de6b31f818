"""Texts of a query become vectors in BigQuery; then the texts nearest to one of them are found.

The vectors land in the table `article_embeddings`, and the nearest texts in `nearest_articles`.
"""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, Param
from airflow.providers.google.cloud.operators.bigquery import (  # noqa: TID253 - any operator for SQL would do
    BigQueryInsertJobOperator,
)

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

PARAMS = {
    "model": Param("gemini-embedding-001", type="string", description="Embedding model"),
    # gemini-embedding-001 is not offered in `global`; gemini-embedding-2 is.
    "location": Param(
        "us-central1",
        type="string",
        description="global, us, eu or a region, where the model is offered",
    ),
    "bucket": Param(
        os.environ.get("GEMINI_BATCH_BUCKET", "my-bucket"), type="string", description="Bucket of the job"
    ),
    "dataset": Param(
        os.environ.get("GEMINI_BATCH_DATASET", "my_dataset"),
        type="string",
        pattern="^[A-Za-z0-9_]+$",  # It becomes part of SQL.
        description="Dataset of the results",
    ),
}
# The run ID without what the name of a table cannot have; a run started by hand may have no logical date.
RUN = "{{ run_id | replace(':', '') | replace('+', '') | replace('.', '') }}"

TEXTS = """
WITH articles AS (
  SELECT 1 AS id, 'Passwords' AS title, 'How to change a password that you have forgotten.' AS text
  UNION ALL SELECT 2, 'Invoices', 'Where to find an invoice, and how to change its address.'
  UNION ALL SELECT 3, 'Lockout', 'You are locked out when you have forgotten a password.'
  UNION ALL SELECT 4, 'Photographs', 'Which formats of photographs the app accepts.'
)
SELECT CONCAT('article-', id) AS key, text AS prompt, title FROM articles
"""
# An index needs 5,000 rows. Fewer vectors are compared as fast without one.
VECTORS = """
CREATE OR REPLACE TABLE {{ params.dataset }}.article_vectors AS
SELECT key, embedding
FROM {{ params.dataset }}.article_embeddings
WHERE status = 'succeeded';

IF (SELECT COUNT(*) FROM {{ params.dataset }}.article_vectors) >= 5000 THEN
  CREATE VECTOR INDEX article_vectors_index
  ON {{ params.dataset }}.article_vectors (embedding)
  OPTIONS (index_type = 'IVF', distance_type = 'COSINE');
END IF;
"""
# Compares all vectors. VECTOR_SEARCH uses the index, see docs/embeddings.md.
NEAREST = """
CREATE OR REPLACE TABLE {{ params.dataset }}.nearest_articles AS
SELECT other.key, COSINE_DISTANCE(this.embedding, other.embedding) AS distance
FROM {{ params.dataset }}.article_vectors AS this
CROSS JOIN {{ params.dataset }}.article_vectors AS other
WHERE this.key = 'article-1' AND other.key != this.key
ORDER BY distance
LIMIT 2
"""


def query(task_id: str, sql: str) -> BigQueryInsertJobOperator:
    return BigQueryInsertJobOperator(
        task_id=task_id, configuration={"query": {"query": sql, "useLegacySql": False}}
    )


with DAG(
    "gemini_batch_embeddings",
    schedule=None,
    start_date=datetime(2026, 1, 1),
    catchup=False,
    tags=["gemini-batch"],
    description="Turns texts into vectors and finds the nearest ones",
    doc_md=__doc__,
    params=PARAMS,
):
    requests = BigQueryToGeminiBatchRequestsOperator(
        task_id="requests",
        sql=TEXTS,
        destination_table="{{ params.dataset }}.article_requests_" + RUN,
        model="{{ params.model }}",
        location="{{ params.location }}",
        embedding_config={"task_type": "RETRIEVAL_DOCUMENT", "output_dimensionality": 768},
        export_uri="gs://{{ params.bucket }}/articles/requests",
    )
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model="{{ params.model }}",
        # One job takes 1,000,000 texts. For more, map this task over the list.
        input_uri=requests.output,
        output_uri="gs://{{ params.bucket }}/articles",
        location="{{ params.location }}",
    )
    wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=submit.output,
        destination_table="{{ params.dataset }}.article_embeddings",
        write_mode="merge",
        # It would hold each vector a second time.
        include_response=False,
    )
    wait >> land >> query("index", VECTORS) >> query("nearest", NEAREST)
