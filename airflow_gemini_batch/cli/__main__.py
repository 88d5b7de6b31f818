"""``python -m airflow_gemini_batch.cli``."""

import sys

from airflow_gemini_batch.cli.main import main

sys.exit(main())
