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


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium: install one, or name it in the environment as CHROMIUM")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def windows(browser, server):
    opened = [_window(browser, server) for _ in range(2)]
    yield opened
    for page in opened:
        page.context.close()


@pytest.fixture(scope="module")
def window(browser, server):
    """One window for the tests that leave it as it was."""
    return _window(browser, server)


def becomes_true(page, expression):
    """As `wait_for_function`, which the page's security policy does not let evaluate text."""
    wait_until(lambda: page.evaluate(expression), expression, PATIENCE_MS / 1000)


def _window(browser, server, query=""):
    page = browser.new_context(viewport={"width": 900, "height": 760}, reduced_motion="reduce").new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.mistakes = []
    page.on("pageerror", lambda mistake: page.mistakes.append(str(mistake)))
    page.goto(f"{server.url}/?room=home{query}")
    page.wait_for_selector("#trouble", state="hidden")
    becomes_true(page, "ggx.view.stats.numShown > 3")
    return page


def test_two_windows_show_one_world(server, windows):
    room = server.rooms["home"]
    states, advance = {}, room.room.advance
    room.room.advance = lambda now: _noted(states, advance(now))
    one, other = windows
    one.keyboard.down("KeyW")
    becomes_true(one, "document.querySelector('.key.held') !== null")
    one.keyboard.up("KeyW")
    for page in windows:
        errors, seat = _errors(page, room, states)
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


def _errors(page, room, states):
    """How far what a page shows is from what each seat's view truly was then, in grey levels; and whose page it is."""
    found = {}
    wait_until(lambda: found.update([page.evaluate(PIXELS)]) or found.keys() & states.keys(), "it shows no state")
    tick = max(found.keys() & states.keys())
    data = found[tick]
    shown = np.array(data, np.uint8).reshape(64, 64, 4)[..., :3].astype(int)
    views = room.truth.draw([states[tick]], np.zeros((1, room.room.world.num_players, 7), np.uint8))[0]
    return [np.abs(shown - view.astype(int)).mean() for view in views], page.evaluate("ggx.session.seat")


def _noted(states, block):
    if block is not None:
        states.update(zip(range(block.first_tick, block.first_tick + len(block.states)), block.states, strict=True))
    return block


def test_h264_shows_the_same_world_and_is_offered_where_it_is_read(browser, server):
    room, states = server.rooms["home"], {}
    advance = room.room.advance
    room.room.advance = lambda now: _noted(states, advance(now))
    page = _window(browser, server, "&quality=h264")
    try:
        becomes_true(page, "ggx.view.tick > 0")
        errors, seat = _errors(page, room, states)
        assert errors[seat] < 4
        assert seat == int(np.argmin(errors))
        is_read = page.evaluate(
            "VideoDecoder.isConfigSupported({codec: 'avc1.f4001f'}).then((found) => found.supported)"
        )
        offered = page.evaluate("[...document.getElementById('quality').options].map((each) => each.value)")
        assert ("h264" in offered) == is_read
        assert page.evaluate("document.getElementById('quality').value") == ("h264" if is_read else "crisp")
        assert page.evaluate("ggx.view.reader.decoder?.state ?? null") == ("configured" if is_read else None)
        becomes_true(page, "ggx.view.framesPerSecond(performance.now()) > 20")
        assert page.mistakes == []
    finally:
        room.room.advance = advance
        page.context.close()


def test_a_browser_without_a_decoder_plays_on_in_jpeg(browser, server):
    context = browser.new_context(viewport={"width": 900, "height": 760})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.add_init_script("delete window.VideoDecoder")
    page.goto(f"{server.url}/?room=home&quality=h264")
    page.wait_for_selector("#trouble", state="hidden")
    try:
        becomes_true(page, "ggx.view.stats.numShown > 3")
        assert page.evaluate("[ggx.quality, ggx.qualities]") == ["crisp", ["crisp", "light", "thin"]]
        assert "Pictures come as crisp: “h264”" in page.inner_text("#history")
    finally:
        context.close()


def test_the_whole_picture_and_the_keys_are_on_the_screen_of_a_narrow_window(windows):
    page = windows[0]
    for width, height in ((900, 760), (820, 600), (390, 800), (844, 390)):
        page.set_viewport_size({"width": width, "height": height})
        for part in ("#stage", "#keys", "#say"):
            box = page.locator(part).bounding_box()
            assert box["y"] + box["height"] <= height, f"{part} at {width}x{height}"
            assert box["x"] + box["width"] <= width, f"{part} at {width}x{height}"


HELD = "ggx.held.take(), ggx.keyMap.keys.filter((key) => ggx.held.isHeld(key)).join()"


def test_a_key_is_held_until_it_comes_up_whatever_has_the_focus(window):
    keyboard = window.keyboard
    for other in ("Enter", "Control", "Alt"):
        keyboard.down("KeyW")
        assert window.evaluate(HELD) == "w"
        keyboard.down(other)
        keyboard.up("KeyW")
        assert window.evaluate(HELD) == "", f"w sticks after {other}"
        keyboard.up(other)
        keyboard.press("Escape")
    window.click("#sentence")
    keyboard.type("we")
    assert (window.input_value("#sentence"), window.evaluate(HELD)) == ("we", "")
    window.click("#show-settings")
    for field in ("#anticipate", "#line"):
        window.focus(field)
        keyboard.down("KeyS")
        assert window.evaluate(HELD) == "s", f"{field} swallows s"
        keyboard.up("KeyS")
    window.focus("#anticipate")
    keyboard.press("Space")
    assert not window.is_checked("#anticipate")
    assert window.evaluate("document.activeElement === document.body")
    assert window.input_value("#line") == ""
    window.click("#show-settings")
    assert window.mistakes == []


def test_a_key_is_changed_or_stays_as_it_was(window):
    def change(key):
        window.click(f"[aria-label='Change the key for {key}']")
        assert of(key) == "press a key …"

    def of(key):
        return window.text_content(f"[aria-label='Change the key for {key}']")

    def focused():
        return window.evaluate("document.activeElement.ariaLabel")

    window.click("#show-settings")
    usual = of("w")
    for refused in ("Enter", "Shift", "F2"):
        change("w")
        window.keyboard.press(refused)
        assert of("w") == "another key …"
        window.keyboard.press("Escape")
        assert (of("w"), focused()) == (usual, "Change the key for w")
    change("w")
    window.keyboard.press("Tab")
    assert (of("w"), focused()) == (usual, "Change the key for a")
    change("w")
    change("a")
    assert of("w") == usual
    window.click("#here")
    window.keyboard.press("KeyK")
    assert (of("w"), of("a")) == (usual, "a or ←")
    change("w")
    window.keyboard.press("KeyK")
    assert (of("w"), focused()) == ("k", "Change the key for w")
    window.keyboard.down("KeyK")
    assert window.evaluate(HELD) == "w"
    window.keyboard.up("KeyK")
    window.click("text=Back to the usual keys")
    assert of("w") == usual
    window.click("#show-settings")
    assert window.mistakes == []


def test_a_page_says_what_keeps_it_from_playing_and_comes_back(window):
    def answers(path, **answer):
        window.route(f"**/{path}", lambda route: route.fulfill(**answer))
        window.evaluate("ggx.line.socket?.close()")

    def says(sentence, is_over):
        becomes_true(window, f"document.getElementById('trouble-said').textContent.startsWith('{sentence}')")
        assert window.is_hidden(".spinner") == is_over

    answers("readyz", status=502, content_type="text/html", body="<html>Bad Gateway</html>")
    says("The server does not answer. Trying again", is_over=False)
    window.unroute("**/readyz")
    window.wait_for_selector("#trouble", state="hidden")
    answers("rooms", status=422, content_type="application/json", body='{"detail": "no such camera"}')
    says("The server refuses: no such camera.", is_over=True)
    window.unroute("**/rooms")
    with window.expect_navigation():  # as a page does that comes from the back/forward cache
        window.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    window.wait_for_selector("#trouble", state="hidden")
    assert window.mistakes == []


def test_the_list_of_rooms_keeps_the_focus(browser, server):
    page = browser.new_page()
    page.set_default_timeout(PATIENCE_MS)
    here = [0]

    def polled():
        with page.expect_response("**/status"):
            page.clock.run_for(3000)
        return page.evaluate("[document.activeElement.isOld === true, document.activeElement.innerText]")

    def rooms(route):
        names = {"hill": [0, 1], "cave": here}
        lines = [{"name": name, "world": "truth", "here": here, "seats": 4} for name, here in names.items()]
        route.fulfill(json={"ready": True, "rooms": lines})

    page.route("**/status", rooms)
    page.clock.install()
    page.goto(server.url)
    page.focus("#rooms a[href='?room=cave']")
    page.evaluate("document.activeElement.isOld = true")
    assert polled()[0], "the list was built anew although nothing has changed"
    here += [1, 2]
    wait_until(lambda: polled()[1].split() == ["cave", "the", "game's", "own", "picture", "3", "of", "4"], "no news")
    page.context.close()
