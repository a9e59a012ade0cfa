"""Two real windows on one world: what each draws is compared with the truth, pixel by pixel."""

import os
import shutil

import numpy as np
import pytest
from servers import wait_until

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
PATIENCE_MS = 240_000
PIXELS = """() => { const c = document.getElementById("view");
  return [ggx.view.tick, [...c.getContext("2d").getImageData(0, 0, c.width, c.height).data]]; }"""


@pytest.fixture
def windows(server):
    if CHROMIUM is None:
        pytest.skip("no chromium: install one, or name it in the environment as CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield [_window(browser, server) for _ in range(2)]
        browser.close()


def becomes_true(page, expression):
    """As `wait_for_function`, which the page's security policy does not let evaluate text."""
    wait_until(lambda: page.evaluate(expression), expression, PATIENCE_MS / 1000)


def _window(browser, server):
    page = browser.new_context(viewport={"width": 900, "height": 760}, reduced_motion="reduce").new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.mistakes = []
    page.on("pageerror", lambda mistake: page.mistakes.append(str(mistake)))
    page.goto(f"{server.url}/?room=snowfield")
    page.wait_for_selector("#trouble", state="hidden")
    becomes_true(page, "ggx.view.stats.numShown > 3")
    return page


def test_two_windows_show_one_world(server, windows):
    room = server.rooms["snowfield"]
    states, advance = {}, room.room.advance
    room.room.advance = lambda now: _noted(states, advance(now))
    one, other = windows
    one.keyboard.down("KeyW")
    becomes_true(one, "document.querySelector('.key.held') !== null")
    one.keyboard.up("KeyW")
    for page in windows:
        seat = page.evaluate("ggx.session.seat")
        tick, data = page.evaluate(PIXELS)
        while tick not in states:
            tick, data = page.evaluate(PIXELS)
        shown = np.array(data, np.uint8).reshape(64, 64, 4)[..., :3].astype(int)
        views = room.truth.draw([states[tick]], np.zeros((1, room.room.world.num_players, 7), np.uint8))[0]
        errors = [np.abs(shown - view.astype(int)).mean() for view in views]
        assert errors[seat] < 4, "the picture is not what is true"
        assert seat == int(np.argmin(errors)), "the picture is somebody else's"
        assert page.evaluate("[ggx.session.numDesyncs, ggx.session.numUnreadable]") == [0, 0]
    seats = {page.evaluate("ggx.session.seat") for page in windows}
    assert len(seats) == 2
    one.fill("#sentence", "Let it rain.")
    one.press("#sentence", "Enter")
    other.wait_for_selector("#history li:has-text('Let it rain.')")
    wait_until(lambda: room.room.state.conditions.target[0] == 1, "it does not rain")
    one.keyboard.press("F3")
    becomes_true(one, "document.getElementById('figures').textContent.includes('rtt')")
    assert [page.mistakes for page in windows] == [[], []]


def _noted(states, block):
    if block is not None:
        states.update(zip(range(block.first_tick, block.first_tick + len(block.states)), block.states, strict=True))
    return block


def test_the_whole_picture_and_the_keys_are_on_the_screen_of_a_narrow_window(windows):
    page = windows[0]
    for width, height in ((900, 760), (820, 600), (390, 800), (844, 390)):
        page.set_viewport_size({"width": width, "height": height})
        for part in ("#stage", "#keys", "#say"):
            box = page.locator(part).bounding_box()
            assert box["y"] + box["height"] <= height, f"{part} at {width}x{height}"
            assert box["x"] + box["width"] <= width, f"{part} at {width}x{height}"
