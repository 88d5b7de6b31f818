"""What is known of the locked dependencies: ``security.py licences``, ``security.py vulnerabilities LOCK…``.

Runs in .venv, which has pip-audit and the dependencies themselves.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata

from packaging.requirements import Requirement

PACKAGE = "airflow-provider-gemini-batch"
EXTRA = "local"


def vulnerabilities(locks: list[str]) -> int:
    """Print the known vulnerabilities; return 1 if there are any, or if a package could not be looked up."""
    failed = 0
    for lock in locks:
        command = [sys.executable, "-m", "pip_audit", "--requirement", lock, "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        try:
            found = json.loads(done.stdout)["dependencies"]
        except ValueError:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
            print(f"{lock}: pip-audit reached no vulnerability data, so nothing is known: {reason}")
            failed = 1
            continue
        # pip-audit itself ends with 0 when it could look up nothing at all.
        skipped = [each["name"] for each in found if "skip_reason" in each]
        if skipped:
            few = ", ".join(skipped[:3])
            print(
                f"{lock}: pip-audit found no vulnerability data for {len(skipped)} of {len(found)} packages "
                f"({few}, …), so nothing is known of them."
            )
        harmed = [(each, vuln) for each in found for vuln in each.get("vulns", ())]
        for each, vuln in harmed:
            fixed = ", ".join(vuln["fix_versions"]) or "no version"
            print(f"{lock}: {each['name']} {each['version']}: {vuln['id']}, fixed in {fixed}")
        if not (skipped or harmed):
            print(f"{lock}: no known vulnerability in {len(found)} packages.")
        failed = failed or int(bool(skipped or harmed))
    return failed


def licences() -> int:
    """Print the licence of each package that installing this one brings in."""
    rows = sorted((licence_of(name), name, metadata.version(name)) for name in runtime_packages())
    for licence, name, version in rows:
        print(f"{name:<50} {version:<14} {licence}")
    unknown = [name for licence, name, _ in rows if licence == "unknown"]
    if unknown:
        print(f"Look up by hand: {', '.join(unknown)}")
    return 0


def runtime_packages() -> set[str]:
    """Return the installed packages that this one needs, directly or not."""
    found: set[str] = set()
    waiting = [(PACKAGE, frozenset({EXTRA}))]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        for text in metadata.requires(name) or ():
            needed = Requirement(text)
            marker = needed.marker
            if marker and not any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
                continue
            each = re.sub(r"[-_.]+", "-", needed.name).lower()
            key = (each, frozenset(needed.extras))
            if key not in seen:
                seen.add(key)
                waiting.append(key)
                found.add(each)
    return found


def licence_of(name: str) -> str:
    """Return the licence as the package states it: an SPDX expression, a classifier or a short text."""
    facts = metadata.metadata(name)
    classifiers = [text for text in facts.get_all("Classifier") or () if text.startswith("License ::")]
    text = (facts.get("License") or "").strip().removeprefix("UNKNOWN")
    stated = facts.get("License-Expression") or (text if 0 < len(text) <= 40 else "")
    named = ", ".join(each.rpartition(" :: ")[2] for each in classifiers)
    return stated or named or (text.splitlines()[0][:60] if text else "unknown")


if __name__ == "__main__":
    sys.exit(vulnerabilities(sys.argv[2:]) if sys.argv[1] == "vulnerabilities" else licences())
