"""Runs each job in a thread: reads the input, answers every row, writes the output, sets the result."""

from __future__ import annotations

import io
import logging
import random
import tempfile
import threading
from array import array
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import CompletionStats, JobState
from airflow_gemini_batch.emulator.behaviour import AS_ASSUMED
from airflow_gemini_batch.emulator.faults.plan import JobFault, OutputFault, RowFaultKind
from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.emulator.running.importer import MAX_ROWS, can_be_imported, check_import
from airflow_gemini_batch.emulator.running.job_store import Abandoned, Outcome, rfc3339, utc_now
from airflow_gemini_batch.emulator.running.row_faults import disturbed_answer, disturbed_lines, order
from airflow_gemini_batch.emulator.running.rows import RowProcessor, copied, prediction_line
from airflow_gemini_batch.emulator.running.storage import ObjectStorage, parse_line, read_lines
from airflow_gemini_batch.emulator.running.tables import (
    Column,
    Tables,
    columns_of_lines,
    table_line,
    with_answers,
)
from airflow_gemini_batch.models import find_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from airflow_gemini_batch.emulator.behaviour import Behaviour
    from airflow_gemini_batch.emulator.running.job_store import Job
    from airflow_gemini_batch.emulator.running.rows import Habits, InputRow, OutputRow

log = logging.getLogger(__name__)

_JOIN_SECONDS = 15.0
_NO_FAULT = JobFault()


class Runner:
    """Starts a thread for each job."""

    def __init__(self, habits: Habits, seed: int, behaviour: Behaviour = AS_ASSUMED) -> None:
        self._habits = habits
        self._seed = seed
        self._behaviour = behaviour
        self._threads: set[threading.Thread] = set()
        self._lock = threading.Lock()

    def start(self, job: Job) -> None:
        """Run a job in a new thread."""
        thread = threading.Thread(
            target=self._run, args=(job,), name=f"batch-job-{job.name.job_id}", daemon=True
        )
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def join(self) -> None:
        """Wait for the threads of abandoned jobs to end."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(_JOIN_SECONDS)

    def _run(self, job: Job) -> None:
        try:
            with _Work(job, self._habits, self._seed, self._behaviour) as work:
                failure = None
                try:
                    work.answer_rows()
                except errors.JobFailedError as error:
                    failure = error
                share = job.wait_for_path()
                job.finish(work.fail(failure) if failure and share is None else work.end(share, failure))
        except Abandoned:
            pass
        except Exception:
            log.exception("The emulator failed to run %s", job.name)
            job.finish(Outcome(JobState.FAILED, errors.system_error()))
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())


class _Spool:
    """The output lines in a temporary file, which can be truncated after any row."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._ends = array("Q")
        self._succeeded = bytearray()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, line: bytes, *, succeeded: bool) -> None:
        self._file.write(line)
        self._ends.append((self._ends[-1] if self._ends else 0) + len(line))
        self._succeeded.append(succeeded)

    def cut(self, rows: int) -> IO[bytes]:
        """Truncate the file to its first rows, rewind it and return it."""
        self._file.truncate(self.size(rows))
        self._file.seek(0)
        return self._file

    def size(self, rows: int) -> int:
        """Return the size of the first rows in bytes."""
        return self._ends[rows - 1] if rows else 0

    def stats(self, rows: int) -> CompletionStats:
        succeeded = sum(self._succeeded[:rows])
        return CompletionStats(succeeded, rows - succeeded, len(self) - rows)

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class _Input:
    """The raw rows of the input, and a function that parses one."""

    items: Sequence[Any]
    parse: Callable[[Any], InputRow]
    columns: Callable[[], list[Column]]


class _Work:
    """One run of one job."""

    def __init__(self, job: Job, habits: Habits, seed: int, behaviour: Behaviour) -> None:
        self._job = job
        self._behaviour = behaviour
        self._habits = habits
        self._seed = seed
        self._begun = utc_now()
        self._open = ExitStack()
        self._spool = _Spool()
        self._open.callback(self._spool.close)
        self._columns: list[Column] = []

    def __enter__(self) -> _Work:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def answer_rows(self) -> None:
        """Read the input and answer its rows in output order.

        :raises JobFailedError: when the input cannot be imported, or the output bucket does not exist
        """
        request = self._job.request
        source = self._read(request["inputConfig"])
        prefix = _output_prefix(request)
        if prefix is not None:
            self._storage().check_bucket(prefix)
            write = prediction_line
        else:
            self._columns = columns = with_answers(source.columns())
            if not self._behaviour.unites_columns:
                self._check_same_members(source)

            def write(output: OutputRow) -> bytes:
                return table_line(output, columns)

        items = list(enumerate(source.items, 1))
        if self._habits.shuffles:
            random.Random(f"{self._seed}").shuffle(items)  # noqa: S311
        process = RowProcessor(_model_id(request["model"]), self._seed, self._habits).process
        plan = self._job.plan
        shuffled = [at for at, (row, _) in enumerate(items) if RowFaultKind.SHUFFLED in plan.of_row(row)]
        for at in order(shuffled, len(items), plan.seed):
            row, item = items[at]
            self._job.check_abandoned()
            faults = plan.of_row(row)
            given = source.parse(item)
            output = copied(given) or disturbed_answer(process(given), faults)
            lines = disturbed_lines(write(output), faults, f"{plan.seed}/{row}", in_table=prefix is None)
            self._spool.add(lines, succeeded=not output.status)

    def _check_same_members(self, source: _Input) -> None:
        if len({tuple(sorted(source.parse(item).fields)) for item in source.items}) > 1:
            raise errors.export_failed("The rows have different columns.")

    def end(self, share: float | None, failure: errors.JobFailedError | None = None) -> Outcome:
        """Write the output and return the result of the job.

        :param share: for a cancelled job, the share of RUNNING that had passed, 0 to 1; else None
        """
        rows = 0 if failure else len(self._spool)
        state, error = JobState.SUCCEEDED, None
        if share is not None:
            rows = int(rows * share)
            state = self._behaviour.ends_cancelled
            error = errors.JobFailedError(errors.CANCELLED, "CANCELED")
            if not rows:
                return Outcome(state, error)
        elif fault := self._job.plan.fault:
            rows = rows if fault.after_rows is None else min(rows, fault.after_rows)
            state = fault.ends or state
            error = errors.of_state(state, fault.code)
        stats = self._spool.stats(rows)
        if state is JobState.SUCCEEDED and not stats.successful:
            state = self._behaviour.ends_all_failed
        shows_stats = (self._job.plan.fault or _NO_FAULT).counts
        try:
            return Outcome(state, error, stats, self._export(rows), shows_stats)
        except errors.JobFailedError as failed:
            return Outcome(JobState.FAILED, failed, stats, shows_stats=shows_stats)

    def _export(self, rows: int) -> dict[str, str] | None:
        """Write the first rows, unless a fault of the job prevents it; return ``outputInfo``."""
        fault = self._job.plan.fault or _NO_FAULT
        if not fault.exports:
            return None
        output_info = self._write(self._spool.cut(rows), fault, rows)
        return None if fault.output is OutputFault.NO_INFO else output_info

    def fail(self, failure: errors.JobFailedError) -> Outcome:
        """Return the result of a job whose input could not be imported."""
        return Outcome(JobState.FAILED, failure)

    def _storage(self) -> ObjectStorage:
        storage = ObjectStorage(self._job.name.project)
        self._open.callback(storage.close)
        return storage

    def _tables(self) -> Tables:
        tables = Tables(self._job.name.project)
        self._open.callback(tables.close)
        return tables

    def _read(self, config: Mapping[str, Any]) -> _Input:
        if "bigquerySource" in config:
            if not self._behaviour.reads_tables_inside and self._job.name.location in ("us", "eu"):
                raise errors.import_failed("The dataset is not in the location of the job.")
            columns, rows = self._tables().read(config["bigquerySource"]["inputUri"])
            return _Input(rows, lambda row: row, lambda: columns)
        lines = read_lines(self._storage(), config["gcsSource"]["uris"], self._behaviour)
        known = find_model(self._job.request["model"])
        if self._behaviour.skips_bad_lines:
            lines = [line for line in lines if can_be_imported(line)]
        check_import(lines, known.max_rows if known else MAX_ROWS)

        def parse(line: bytes) -> InputRow:
            return parse_line(line, self._habits)

        return _Input(lines, parse, lambda: columns_of_lines(map(parse, lines)))

    def _write(self, rows: IO[bytes], fault: JobFault, count: int) -> dict[str, str]:
        prefix = _output_prefix(self._job.request)
        if prefix is not None:
            directory = f"{prefix.rstrip('/')}/prediction-model-{rfc3339(self._begun)}"
            if fault.output is not OutputFault.EMPTY:
                self._write_objects(directory, rows, fault, count)
            return {"gcsOutputDirectory": directory}
        tables = self._tables()
        uri = self._job.request["outputConfig"]["bigqueryDestination"]["outputUri"]
        table = tables.output_table(uri, self._begun)
        tables.write(table, self._columns, rows)
        dataset, _, name = table.rpartition(".")
        return {"bigqueryOutputDataset": f"bq://{dataset}", "bigqueryOutputTable": name}

    def _write_objects(self, directory: str, rows: IO[bytes], fault: JobFault, count: int) -> None:
        storage = self._storage()
        if fault.incremental:
            half = io.BytesIO(rows.read(self._spool.size(count // 2)))
            storage.write(f"{directory}/incremental_predictions.jsonl", half)
            rows.seek(0)
        if not fault.shards:
            storage.write(f"{directory}/predictions.jsonl", rows)
            return
        ends = [self._spool.size(count * shard // fault.shards) for shard in range(fault.shards + 1)]
        for shard in range(fault.shards):
            part = io.BytesIO(rows.read(ends[shard + 1] - ends[shard]))
            storage.write(f"{directory}/predictions.jsonl-{shard:05}-of-{fault.shards:05}", part)


def _output_prefix(request: Mapping[str, Any]) -> str | None:
    """Return the output prefix in Cloud Storage; None for output in BigQuery."""
    destination = request["outputConfig"].get("gcsDestination")
    return str(destination["outputUriPrefix"]) if destination else None


def _model_id(model: str) -> str:
    return model.rsplit("/", 1)[-1].split("@", 1)[0]
