"""Texts of a query become vectors in BigQuery; then the texts nearest to one of them are found."""

from __future__ import annotations

import os
from datetime import datetime

from airflow.providers.common.compat.sdk import DAG
from airflow.providers.google.cloud.operators.bigquery import (  # noqa: TID253 - any operator for SQL would do
    BigQueryInsertJobOperator,
)

from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from airflow_gemini_batch.sensors.gemini_batch import GeminiBatchJobSensor

BUCKET = os.environ.get("GEMINI_BATCH_BUCKET", "my-bucket")
DATASET = os.environ.get("GEMINI_BATCH_DATASET", "my_dataset")
MODEL = "gemini-embedding-001"
# Not offered in `global`; gemini-embedding-2 is.
LOCATION = "us-central1"

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
VECTORS = f"""
CREATE OR REPLACE TABLE {DATASET}.article_vectors AS
SELECT key, embedding
FROM {DATASET}.article_embeddings
WHERE status = 'succeeded';

IF (SELECT COUNT(*) FROM {DATASET}.article_vectors) >= 5000 THEN
  CREATE VECTOR INDEX article_vectors_index
  ON {DATASET}.article_vectors (embedding)
  OPTIONS (index_type = 'IVF', distance_type = 'COSINE');
END IF;
"""  # noqa: S608 - DATASET is not given by users of the DAG
# Compares all vectors. VECTOR_SEARCH uses the index, see docs/embeddings.md.
NEAREST = f"""
CREATE OR REPLACE TABLE {DATASET}.nearest_articles AS
SELECT other.key, COSINE_DISTANCE(this.embedding, other.embedding) AS distance
FROM {DATASET}.article_vectors AS this
CROSS JOIN {DATASET}.article_vectors AS other
WHERE this.key = 'article-1' AND other.key != this.key
ORDER BY distance
LIMIT 2
"""  # noqa: S608


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
):
    requests = BigQueryToGeminiBatchRequestsOperator(
        task_id="requests",
        sql=TEXTS,
        destination_table=f"{DATASET}.article_requests_{{{{ ts_nodash | lower }}}}",
        model=MODEL,
        location=LOCATION,
        embedding_config={"task_type": "RETRIEVAL_DOCUMENT", "output_dimensionality": 768},
        export_uri=f"gs://{BUCKET}/articles/requests",
    )
    submit = GeminiBatchSubmitOperator(
        task_id="submit",
        model=MODEL,
        # One job takes 1,000,000 texts. For more, map this task over the list.
        input_uri=requests.output,
        output_uri=f"gs://{BUCKET}/articles",
        location=LOCATION,
    )
    wait = GeminiBatchJobSensor(task_id="wait", job_name=submit.output)
    land = GeminiBatchResultsToBigQueryOperator(
        task_id="land",
        job_name=submit.output,
        destination_table=f"{DATASET}.article_embeddings",
        write_mode="merge",
        # It would hold each vector a second time.
        include_response=False,
    )
    wait >> land >> query("index", VECTORS) >> query("nearest", NEAREST)
