"""BigQuery as clients see it, with jobs that run for as long as a test wants, or end as it wants."""

from __future__ import annotations

import json
import math
import re
import time
from typing import Any

from tests.recorder import Recorder

CONFLICT = {
    "reason": "invalidQuery",
    "message": "Transaction is aborted due to concurrent update against table p:d.t. Transaction ID: 1",
}
TRANSIENT = {"reason": "backendError", "message": "try again"}


class SlowBigQuery(Recorder):
    """Stands before the emulator: ``with SlowBigQuery(url) as bigquery``, then talk to ``bigquery.url``.

    The jobs really run; what the client is told of them differs.

    :param slow: regular expression: jobs whose ID matches run until :meth:`finish` is called
    :param seconds: how long they run at most
    """

    def __init__(self, target: str, slow: str = "gemini-batch-", seconds: float = math.inf) -> None:
        super().__init__(target, change=self._told)
        self.slow, self.seconds = slow, seconds
        self.endings: list[tuple[str, dict[str, str]]] = []
        """The errors that jobs end with: the next one for an ID that matches the regular expression."""
        self.started: list[str] = []
        self._ends: dict[str, float] = {}
        self._errors: dict[str, dict[str, str]] = {}

    def finish(self) -> list[str]:
        """End all jobs that run, and return their IDs."""
        running = [job_id for job_id in self.started if self._runs(job_id)]
        self._ends |= dict.fromkeys(running, 0.0)
        return running

    def _runs(self, job_id: str) -> bool:
        return time.monotonic() < self._ends.get(job_id, 0.0)

    def kinds(self) -> list[str]:
        """The kinds of jobs that were started, in order: ``load``, ``schemas``, ``media``, ``land``."""
        return [job_id.split("-")[2] for job_id in self.started]

    def _told(self, method: str, path: str, content: bytes) -> bytes:
        if "/jobs" not in path or not content.startswith(b"{"):
            return content
        job: dict[str, Any] = json.loads(content)
        job_id = str((job.get("jobReference") or {}).get("jobId"))
        if "status" not in job or not job_id.startswith("gemini-batch-"):
            return content
        if method == "POST":
            self._start(job_id)
        if job["status"]["state"] == "DONE" and self._runs(job_id):
            job["status"] = {"state": "RUNNING"}
        elif job["status"]["state"] == "DONE" and job_id in self._errors:
            job["status"] |= {"errorResult": self._errors[job_id], "errors": [self._errors[job_id]]}
        return json.dumps(job).encode()

    def _start(self, job_id: str) -> None:
        self.started.append(job_id)
        self._ends[job_id] = time.monotonic() + self.seconds if re.search(self.slow, job_id) else 0.0
        for ending in self.endings:
            if re.search(ending[0], job_id):
                self._errors[job_id] = ending[1]
                self.endings.remove(ending)
                return
