"""What tests with a browser share: a JupyterLab on a folder, headless Chromium, and a watch on it.

The browser reaches nothing but what a test lets it; what a page asks for elsewhere is written down.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
PRIVATE = ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR", "IPYTHONDIR")


def path() -> str:
    """The first Chromium on the path, or a skip that says what is missing."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is on the path")
    return found


@contextmanager
def jupyterlab(folder: Path, own: Path, *options: str) -> Iterator[str]:
    """Address of a JupyterLab (token ``t``) on ``folder``; its own files go to ``own``."""
    path()
    own.mkdir()
    environment = os.environ | {name: str(own / name) for name in PRIVATE}
    environment.pop("CODESIGN_STATIC", None)
    environment["CODESIGN_CACHE"] = str(own / "cache")  # where a reader's predictions are kept
    environment["JUPYTERLAB_WORKSPACES_DIR"] = str(own / "workspaces")
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ip=127.0.0.1", "--port=0", *options]
    command += [f"--ServerApp.root_dir={folder}", "--IdentityProvider.token=t"]
    log = own / "lab.log"
    with log.open("w") as file:
        server = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            yield _address(server, log)
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _address(server: subprocess.Popen, log: Path, seconds: float = 120) -> str:
    """Where the server listens, once it says so."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and server.poll() is None:
        if found := re.search(r"http://127\.0\.0\.1:\d+/", log.read_text()):
            return found[0]
        time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")


@contextmanager
def chromium(profile: Path, *allowed: str, height: int = 1600) -> Iterator[tuple]:
    """A page that reaches addresses beginning with ``allowed``; and those it asked for besides."""
    from playwright.sync_api import sync_playwright

    asked: list[str] = []

    def refuse(route):
        asked.append(route.request.url)
        route.abort()

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=path(),
            args=FLAGS,
            headless=True,
            viewport={"width": 1280, "height": height},
        )
        try:
            page = browser.new_page()
            page.set_default_timeout(60_000)
            page.route(lambda url: not url.startswith((*allowed, "blob:", "data:")), refuse)
            yield page, asked
        finally:
            browser.close()


def watch(page) -> list[str]:
    """What scripts on ``page`` do from now on: calls of ``pwned``, dialogs, uncaught errors."""
    seen: list[str] = []
    page.expose_function("pwned", lambda *said: seen.append(f"pwned{said}"))
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    page.on("pageerror", lambda error: seen.append(str(error)))
    return seen
