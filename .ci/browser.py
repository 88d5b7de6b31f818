#!/usr/bin/env python3
"""Provide a headless Chromium for the browser tests, as .tools/browser/run.

Uses a browser on the PATH if it works. Otherwise it unpacks Debian's into the checkout, which needs apt-get
and dpkg-deb but no root, and installs nothing on the machine. Exit code 3: no browser can be provided; the
message says why.
"""

from __future__ import annotations

import os
import re
import shutil
import sys

from environments import TOOLS, SetupError, patiently, python_env, say

FOLDER = TOOLS / "browser"
RUN = FOLDER / "run"
NAMES = ("chromium-headless-shell", "chromium", "google-chrome", "google-chrome-stable", "chromium-browser")
MAC = "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"
PACKAGES = ("chromium-headless-shell", "fonts-inter", "fonts-dejavu-core")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
NONE = 3

RUN_OWN = """#!/bin/sh
export LD_LIBRARY_PATH="{libraries}" FONTCONFIG_FILE="{folder}/fonts.conf"
exec "{program}" {flags} --user-data-dir="{folder}/profile" "$@"
"""
RUN_OTHER = """#!/bin/sh
exec "{program}" {flags} --user-data-dir="{folder}/profile" "$@"
"""
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{folder}/root/usr/share/fonts</dir>
  <dir>/usr/share/fonts</dir>
  <cachedir>{folder}/fonts</cachedir>
  <alias binding="strong"><family>system-ui</family><prefer><family>Inter</family></prefer></alias>
  <alias binding="strong"><family>sans-serif</family><prefer><family>Inter</family></prefer></alias>
  <alias binding="strong"><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
</fontconfig>
"""


def provide():
    """Make sure that .tools/browser/run works.

    :raises SetupError: no browser can be provided
    """
    if works():
        return
    shutil.rmtree(str(FOLDER), ignore_errors=True)
    FOLDER.mkdir(parents=True)
    for program in filter(None, [*map(shutil.which, NAMES), shutil.which(MAC)]):
        write_run(RUN_OTHER.format(program=program, folder=FOLDER, flags=" ".join(FLAGS)))
        if works():
            return
        RUN.unlink()
    unpack()
    if not works():
        RUN.unlink()
        raise SetupError("Debian's chromium-headless-shell was unpacked into .tools/browser and does not run")


def works():
    """Return whether the browser can read a file in this checkout; a sandboxed one may not."""
    page = FOLDER / "page.html"
    if not RUN.exists():
        return False
    page.write_text("<p>seen</p>")
    return "<p>seen</p>" in (python_env.output_of([str(RUN), "--dump-dom", page.as_uri()]) or "")


def unpack():
    """Unpack Debian's browser and its missing dependencies into .tools/browser/root."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise SetupError(
            "no Chromium or Chrome is on the PATH, and Debian's cannot be unpacked: this is not Debian"
        )
    text = "Unpacking Debian's Chromium into .tools/browser"
    root, packages = FOLDER / "root", FOLDER / "packages"
    for folder in (root, packages, FOLDER / "lists" / "partial", FOLDER / "cache" / "archives" / "partial"):
        folder.mkdir(parents=True)
    # Separate package lists and archives: the system's may be absent, and writing to them takes root.
    settings = {
        "Dir::State::lists": FOLDER / "lists",
        "Dir::Cache": FOLDER / "cache",
        "Debug::NoLocking": "true",
        "APT::Sandbox::User": "",
        "APT::Install-Recommends": "false",
    }
    apt = ["apt-get", "-q", "-y", *("-o{}={}".format(*setting) for setting in settings.items())]
    patiently(text, [*apt, "update"])
    missing = python_env.output_of([*apt, "--print-uris", "install", *PACKAGES])
    names = re.findall(r"^'\S+' ([^_\s]+)_", missing or "", re.MULTILINE)
    if not names:
        raise SetupError(
            "no Chromium or Chrome is on the PATH, and apt-get has no package " + " ".join(PACKAGES)
        )
    patiently(text, ["sh", "-c", 'cd "$0" && exec "$@"', str(packages), *apt, "download", *names])
    for package in sorted(packages.glob("*.deb")):
        patiently(text, ["dpkg-deb", "-x", str(package), str(root)])
    libraries = sorted({str(path.parent) for path in root.glob("**/*.so*") if "chromium" not in path.parts})
    (FOLDER / "fonts.conf").write_text(FONTS.format(folder=FOLDER))
    program = root / "usr" / "lib" / "chromium" / "chromium-headless-shell"
    write_run(
        RUN_OWN.format(
            libraries=os.pathsep.join(libraries), folder=FOLDER, program=program, flags=" ".join(FLAGS)
        )
    )
    for name in ("packages", "lists", "cache"):
        shutil.rmtree(str(FOLDER / name))
    say("Unpacked Debian's Chromium into .tools/browser")


def write_run(text):
    """Write the script that the tests run."""
    RUN.write_text(text)
    RUN.chmod(0o755)


def main():
    """Provide the browser, or print why there is none; return the exit code."""
    try:
        with python_env.exclusive(TOOLS):
            provide()
    except SetupError as why:
        print(
            "\nThe browser tests are skipped on this machine: {}.\nThe report is still checked as text by "
            "tests/results/report. To run them, put chromium or google-chrome on the PATH and run "
            "`make browser`.".format(str(why).rstrip(".")),
            file=sys.stderr,
        )
        return NONE
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
