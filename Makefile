# Everything is installed in this folder: .tools (uv, a Python if necessary), .venv*, .local (data and logs).
PYTHON3 ?= python3
WORKERS ?= 4
SETUP = @$(PYTHON3) .ci/environments.py
BIN = .venv/bin
# The tests start many processes. Where this is set, as in many containers, each compiles Airflow for itself.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo up down test lint types unit crash airflow2 lowest browser variants reliability bench scaling billing bigquery lock clean crash-test stop-test load-test wheel-test security docs

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo:  ## run the demo DAG on this machine and show the table that it writes
	$(SETUP) airflow3 bigquery
	@$(BIN)/gemini-batch demo

up:  ## start the local stack and Airflow with the example DAGs, and print the address
	$(SETUP) airflow3 bigquery
	@$(BIN)/gemini-batch up

down:  ## stop what `make up` started
	@if [ -x $(BIN)/gemini-batch ]; then $(BIN)/gemini-batch down; fi

test: lint types unit crash airflow2 lowest browser  ## lint, types and tests on Airflow 3; what meets Airflow also on 2.11

lint:  ## ruff and import-linter
	$(SETUP) airflow3
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types:  ## mypy --strict on the package
	$(SETUP) airflow3
	$(BIN)/mypy

unit:  ## the tests on Airflow 3, without crash and browser
	$(SETUP) airflow3 bigquery
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m "not crash and not browser and not variant"

docs:  ## build the documentation as a site, without network, into site/
	$(SETUP) airflow3
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

crash:  ## kill Airflow processes at seven points; crash-test uses all of them
	$(SETUP) airflow3 bigquery
	$(BIN)/python -m pytest tests/crash -m crash

# These tests use no Airflow, or inject faults into code that the tests of operators cover on 2.11. Tests with
# the mark any_airflow are left out as well: which rows a retry asks for, and where they land, is the same on every
# Airflow.
WITHOUT_AIRFLOW = tests/cli tests/cost tests/crash tests/docs tests/doctor tests/emulator tests/gcp tests/jobs tests/reliability tests/reports \
	tests/requests tests/results tests/scaling tests/billing tests/bench

airflow2:  ## the tests that use Airflow, on Airflow 2.11
	$(SETUP) airflow2 bigquery
	.venv-airflow2/bin/python -m pytest -n $(WORKERS) --dist loadgroup \
		-m "not system and not analyzer and not crash and not browser and not variant and not any_airflow" $(WITHOUT_AIRFLOW:%=--ignore=%)

# What meets Airflow, the Google provider or the SDK: not which rows are landed, which is the same for all of them.
MEETS_AIRFLOW = tests/hooks tests/examples/test_examples.py tests/tasks/test_submit.py tests/tasks/test_waiting.py \
	tests/tasks/test_sensor.py tests/tasks/test_results_operator.py tests/tasks/test_decorator.py tests/tasks/test_resume.py \
	tests/tasks/test_requests_operator.py tests/tasks/test_cancelling.py tests/test_package.py tests/test_models.py \
	tests/testing

# google-genai 1.24 leaves the connections of a client that nobody uses any more to the garbage collector.
UNCLOSED = -W ignore::ResourceWarning -W ignore::pytest.PytestUnraisableExceptionWarning

lowest:  ## the tests that meet Airflow, on the lowest versions that pyproject.toml allows
	$(SETUP) lowest bigquery
	.venv-lowest/bin/python -m pytest -n $(WORKERS) --dist loadgroup $(UNCLOSED) \
		-m "not system and not analyzer and not crash and not browser and not variant and not any_airflow" $(MEETS_AIRFLOW)

browser:  ## render the report, the page of jobs and the site in a headless Chromium; skipped if there is none
	$(SETUP) airflow3 bigquery
	@$(PYTHON3) .ci/browser.py || [ $$? = 3 ]
	@if [ -x .tools/browser/run ]; then $(BIN)/python -m pytest tests/results/report tests/job_page tests/docs/test_site.py -m browser; fi

variants:  ## the cases of tests that `make test` leaves out
	$(SETUP) airflow3 bigquery
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup -m variant

reliability:  ## random faults: 2,000 plans between operators and service, 200 to landing and retries, 20,000 lines
	$(SETUP) airflow3 bigquery
	RELIABILITY_PLANS=2000 RELIABILITY_LANDINGS=200 RELIABILITY_LINES=20000 \
		$(BIN)/python -m pytest -n $(WORKERS) tests/reliability

stop-test:  ## stop tasks that wait, in every way, in real Airflow 3 and 2.11; write the tables to docs/stopping.md
	$(SETUP) airflow3 airflow2 bigquery
	$(BIN)/python -m tests.stopping --write docs/stopping.md
	.venv-airflow2/bin/python -m tests.stopping --write docs/stopping.md

bench:  ## measure speed and memory beside peers; write docs/benchmarks.md
	$(SETUP) airflow3 bench bigquery
	.venv-bench/bin/python -m tests.bench --write

scaling:  ## compute the tables of docs/scaling.md
	$(SETUP) airflow3
	$(BIN)/python -m tests.scaling --write docs/scaling.md

billing:  ## compute the tables about BigQuery in docs/cost.md from the statements
	$(SETUP) airflow3
	$(BIN)/python -m tests.billing --write docs/cost.md

# Not the lowest versions: they are there to be old.
LOCKED = .ci/locks/airflow3.txt .ci/locks/airflow2.txt airflow_gemini_batch/local_stack/bigquery/requirements.txt

security:  ## bandit, licences of the dependencies, and pip-audit, which needs the network
	$(SETUP) airflow3
	$(BIN)/bandit --quiet --recursive --configfile pyproject.toml airflow_gemini_batch .ci/environments.py
	@$(BIN)/python .ci/security.py licences
	@$(BIN)/python .ci/security.py vulnerabilities $(LOCKED)

crash-test:  ## kill processes at every point; write the matrix to docs/reliability.md
	$(SETUP) airflow3 bigquery
	EVERY_CALL=1 $(BIN)/python -m pytest -n $(WORKERS) tests/crash/test_every_call.py
	$(BIN)/python -m tests.crash --write docs/reliability.md

load-test:  ## submit 500 jobs within the quotas; time how soon rows are there; run 300 jobs while calls fail and jobs end badly
	$(SETUP) load bigquery
	.venv-load/bin/python -m tests.crash.quotas
	.venv-load/bin/python -m tests.crash.latency
	.venv-load/bin/python -m tests.crash.load

wheel-test:  ## build the wheel, install it alone, run the demo and a test with LocalStack
	$(SETUP) airflow3
	@UV=$$($(PYTHON3) .ci/environments.py --uv) sh .ci/wheel_test/run.sh

bigquery:  ## make only the environment of the BigQuery emulator
	$(SETUP) bigquery

COMPILE = @$$($(PYTHON3) .ci/environments.py --uv) pip compile --quiet --upgrade --universal \
	--generate-hashes --no-annotate --no-header --no-emit-index-url

lock:  ## upgrade all dependencies and write the lock files
	$(COMPILE) --python-version 3.11 pyproject.toml --extra local --group dev \
		--constraints .ci/locks/airflow3-constraints.txt --output-file .ci/locks/airflow3.txt
	$(COMPILE) --python-version 3.11 pyproject.toml --extra local --group load \
		--constraints .ci/locks/airflow3.txt --output-file .ci/locks/load.txt
	$(COMPILE) --python-version 3.11 pyproject.toml --extra local --group bench \
		--constraints .ci/locks/airflow3.txt --output-file .ci/locks/bench.txt
	$(COMPILE) --python-version 3.11 pyproject.toml --extra local --group test --group lineage \
		--constraints .ci/locks/airflow2-constraints.txt --output-file .ci/locks/airflow2.txt
	$(COMPILE) --python-version 3.11 pyproject.toml --extra local --group test --resolution lowest-direct \
		--constraints .ci/locks/lowest-constraints.txt --output-file .ci/locks/lowest.txt
	$(COMPILE) --python-version 3.13 .ci/locks/bigquery.in \
		--overrides .ci/locks/bigquery-overrides.txt --output-file airflow_gemini_batch/local_stack/bigquery/requirements.txt

clean: down  ## stop everything and remove all generated files
	rm -rf .venv* .tools .local .mypy_cache .ruff_cache .pytest_cache .hypothesis
