"""A real browser for tests: pages are opened in it as a reader would, without a network."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
QUIET = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
)
TELL = "<script>parent.postMessage(String({expression}), '*')</script></body>"
LISTEN = """<body style="margin:0"><iframe src="{page}" style="width:{width}px;height:900px;border:0"></iframe>
<script>addEventListener("message", (event) => document.body.dataset.told = event.data)</script>"""


def browser() -> str:
    """The path of a Chromium; skips the test where there is none."""
    found = os.environ.get("FLARENET_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    return found or pytest.skip("no Chromium here; FLARENET_CHROMIUM may name one")


def ask(page: Path, expression: str, *, width: int = 390, dark: bool = False) -> str:
    """What a JavaScript expression gives at the end of `page`, laid out `width` pixels wide, for a reader of dark pages
    or of light ones.

    Headless windows are at least 500 pixels wide, so a copy of the page lies in a frame, whose parent it tells.
    """
    told, frame = page.with_name("told.html"), page.with_name("frame.html")
    told.write_text(page.read_text(encoding="utf-8").replace("</body>", TELL.format(expression=expression)), "utf-8")
    frame.write_text(LISTEN.format(page=told.name, width=width), "utf-8")
    words = [
        browser(),
        *QUIET,
        f"--user-data-dir={page.parent / 'profile'}",
        "--virtual-time-budget=2000",
        "--dump-dom",
        *(["--force-dark-mode", "--blink-settings=preferredColorScheme=0"] if dark else []),
    ]
    done = subprocess.run([*words, frame.as_uri()], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.partition('data-told="')[2].partition('"')[0]
