#!/bin/sh
# Build the wheel, install it with [local] outside the checkout, run the demo and the tests of a user there.
# UV is the path of uv. KEEP=1 leaves the folder, whose path is printed.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/gemini-batch-wheel.XXXXXX")
[ -n "${KEEP:-}" ] || trap 'rm -rf "$work"' EXIT
echo "In $work"

"$UV" build --quiet --wheel --out-dir "$work/dist" "$root"
"$UV" venv --quiet --python "$root/.venv/bin/python" "$work/venv"
# The versions of the lock file as constraints, without its hashes.
grep -E '^[A-Za-z0-9].*==' "$root/.ci/locks/airflow3.txt" | sed 's/ *\\$//' > "$work/constraints.txt"
echo '$ pip install airflow-provider-gemini-batch[local]'
"$UV" pip install --quiet --python "$work/venv/bin/python" --constraint "$work/constraints.txt" \
    "$(echo "$work"/dist/*.whl)[local]" pytest

mkdir "$work/empty" "$work/home"
export HOME="$work/home" XDG_CACHE_HOME="$work/cache"
cd "$work/empty"
echo '$ gemini-batch demo'
"$work/venv/bin/gemini-batch" demo
# The files of the page "Test your own DAGs".
PYTHONPATH="$root" "$root/.venv/bin/python" -m tests.docs.pages .
echo '$ pytest'
"$work/venv/bin/python" -m pytest -q -p no:cacheprovider
