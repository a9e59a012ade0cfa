"""Windows: real browser windows in one room, whose keys are pressed and whose pages are asked what they saw."""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from gamegen_x.schema.action_space import NO_KEY

if TYPE_CHECKING:
    from playwright.sync_api import Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--disable-gpu", "--disable-quic", "--no-first-run")
SIZE = (1280, 900)  # pixels of a window
POLL_S = 0.05
SENTENCE = "#sentence"  # the field of the page
CANVAS = "document.getElementById('view').toDataURL('image/png')"


class Window:
    """One player's window. Keys go through the page as real key events."""

    def __init__(self, page: Page, patience_s: float) -> None:
        self.page, self.patience_s = page, patience_s
        self.mistakes: list[str] = []  # of the page's scripts
        self._held: set[str] = set()
        page.set_default_timeout(patience_s * 1000)
        page.on("pageerror", lambda mistake: self.mistakes.append(str(mistake)))

    def enter(self, url: str) -> float:
        """Opens the room; returns the seconds until the first picture was shown."""
        self.page.goto(url)
        end = time.monotonic() + self.patience_s
        while not self.page.evaluate("window.ggx !== undefined && ggx.view.stats.numShown > 0"):
            if time.monotonic() > end:
                raise TimeoutError(f"no picture in {self.patience_s:g} s at {url}")
            time.sleep(POLL_S)
        return float(self.sample()["pictures"][0]["at"]) / 1000

    def hold(self, command: str) -> None:
        """Holds the keys of a command, e.g. `w` or `w+d`, and no others."""
        wanted = set() if command == NO_KEY else set(command.split("+"))
        for key in sorted(self._held - wanted):
            self.page.keyboard.up(self._code(key))
        for key in sorted(wanted - self._held):
            self.page.keyboard.down(self._code(key))
        self._held = wanted

    def say(self, sentence: str) -> None:
        """Tells the world to change."""
        self.hold(NO_KEY)  # keys that are held belong to the field as long as somebody types
        self.page.fill(SENTENCE, sentence)
        self.page.press(SENTENCE, "Enter")

    def sample(self) -> dict[str, Any]:
        """What the page saw since it was asked last."""
        found: dict[str, Any] = self.page.evaluate("ggx.sample()")
        return found

    def quality(self) -> str:
        """The tier that the page asked for."""
        return str(self.page.evaluate("ggx.quality"))

    def picture(self, side: int) -> npt.NDArray[np.uint8]:
        """The canvas as it is now, enlarged: `[side side 3]`."""
        data = str(self.page.evaluate(CANVAS)).partition(",")[2]
        image = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")
        return np.asarray(image.resize((side, side), Image.Resampling.NEAREST))

    def _code(self, key: str) -> str:
        """The key of the keyboard on which the page has a key of the world."""
        return str(self.page.evaluate("key => ggx.keyMap.codes[key][0]", key))


@contextmanager
def windows(num: int, chromium: str, patience_s: float) -> Iterator[list[Window]]:
    """Opens so many windows, each as if it were another person's browser, and closes them in the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, headless=True, args=list(FLAGS))
        try:
            viewport: Any = dict(zip(("width", "height"), SIZE, strict=True))
            yield [Window(browser.new_context(viewport=viewport).new_page(), patience_s) for _ in range(num)]
        finally:
            browser.close()


def find_chromium(named: str | None) -> str:
    """The path of a browser. Raises ValueError that says what to install."""
    if importlib.util.find_spec("playwright") is None:
        raise ValueError(
            f"playwright not installed; run: {sys.executable} -m pip install -c constraints.txt -e '.[dev]'"
        )
    wanted = named or os.environ.get("CHROMIUM")
    found = next(filter(None, map(shutil.which, [wanted] if wanted else BROWSERS)), None)
    if found is None:
        said = f"no browser {wanted}" if wanted else f"none of {', '.join(BROWSERS)} on PATH"
        raise ValueError(f"{said}; run: sudo apt-get install chromium, or name one with chromium=<path>")
    return found


def plan(
    commands: Sequence[str], frames: Sequence[int], fps: float, seconds: float, rng: np.random.Generator
) -> list[tuple[float, str]]:
    """Commands and the seconds from which they are held, each for one of so many `frames`; all are equally likely."""
    found, at = [], 0.0
    while at < seconds:
        found.append((at, str(rng.choice(list(commands)))))
        at += int(rng.choice(list(frames))) / fps
    return found


def act(moments: Sequence[tuple[float, Callable[[], None]]]) -> None:
    """Does each thing at its second from now on, in the order of time; what is late is done at once."""
    start = time.monotonic()
    for at, do in sorted(moments, key=lambda moment: moment[0]):
        time.sleep(max(0.0, start + at - time.monotonic()))
        do()
