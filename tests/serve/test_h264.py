"""H.264 on the wire: every block decodes alone, as crisp as JPEG and smaller."""

import asyncio
import threading

import av
import httpx
import numpy as np
import pytest
import simplejpeg
from hydra import compose, initialize_config_dir
from servers import PlayerThread, serve_config, wait_until
from test_game_loop import frame_of, made, played, seated
from websockets.sync.client import connect

from gamegen_x.config import CONFIGS, build
from gamegen_x.serve.frame_codec import Jpeg, split_pictures
from gamegen_x.serve.h264 import CODECS, H264
from gamegen_x.serve.host import build_tiers

CRISP = Jpeg(name="crisp", quality=92, subsampling="444")
SMALL = H264(name="h264", crf=16, preset="veryfast", pixel_format="yuv444p")
BLOCK = 4


@pytest.fixture(scope="module")
def video():
    """Two blocks of somebody who walks through Snowglobe."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        world = build(compose("evaluate", overrides=["suite=multiplayer"]).dynamics).fresh(7, "val")
    held, seen = np.eye(2, 7, dtype=np.uint8), []
    for _ in range(2 * BLOCK):
        world = world.after(held)
        seen.append(world.views()[0])
    return seen


class Views:
    """Grey, at once."""

    can_skip = is_ready = True

    async def draw(self, block):
        return [[np.full((16, 16, 3), 90, np.uint8)] * 2 for _ in block.states]


def decoded(packets):
    """What a decoder that saw nothing before makes of a block."""
    decoder = av.CodecContext.create("h264", "r")
    frames = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))] + decoder.decode(None)
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames])  # colours as the stream says they are


def psnr_db(made, real):
    return 10 * np.log10(255**2 / np.square(np.asarray(made, float) - np.asarray(real)).mean())


def test_each_block_decodes_alone_and_is_as_crisp_as_jpeg_in_half_its_bytes(video):
    for first in (0, BLOCK):
        block = video[first : first + BLOCK]
        packets, jpegs = SMALL.encode(block), CRISP.encode(block)
        shown = [simplejpeg.decode_jpeg(each, colorspace="RGB") for each in jpegs]
        assert len(packets) == BLOCK
        assert psnr_db(decoded(packets), block) > psnr_db(shown, block) - 1
        assert sum(map(len, packets)) < sum(map(len, jpegs)) / 2


def test_pictures_of_one_frame_blocks_stand_alone(video):
    (packet,) = SMALL.encode(video[3:4])
    assert psnr_db(decoded([packet])[0], video[3]) > 35


@pytest.mark.parametrize("pixel_format", CODECS)
def test_what_a_block_is_said_to_be_holds_what_it_is(video, pixel_format):
    tier = H264(name="x", crf=16, preset="veryfast", pixel_format=pixel_format)
    first = tier.encode(video[:1])[0]
    place = first.index(b"\x00\x00\x01\x67") + 4  # the sequence parameter set: profile, constraints, level
    profile, _, level = first[place : place + 3]
    said = bytes.fromhex(tier.codec.removeprefix("avc1."))
    assert profile == said[0]
    assert b"x264" not in first  # its encoder's settings, which no player needs
    assert level <= said[2]


def test_a_halved_tier_and_odd_sizes_are_encoded(video):
    assert decoded(SMALL.halved().encode(video[:2])).shape == (2, 32, 32, 3)
    odd = [picture[:33, :63] for picture in video[:2]]
    assert decoded(SMALL.encode(odd)).shape == (2, 33, 63, 3)
    common = H264(name="x", crf=16, preset="veryfast", pixel_format="yuv420p")
    assert decoded(common.encode(odd)).shape == (2, 32, 62, 3)


def test_slow_codecs_leave_the_event_loop_alone_and_each_view_is_encoded_once(monkeypatch):
    threads, encode = [], H264.encode
    monkeypatch.setattr(H264, "encode", lambda *given: threads.append(threading.get_ident()) or encode(*given))

    room, loop = made(Views())
    one, other = seated(room, loop, SMALL), seated(room, loop, CRISP)
    asyncio.run(played(loop, lambda: loop.num_drawn >= 3))
    assert threading.get_ident() not in threads
    assert loop.num_drawn - 1 <= len(threads) <= loop.num_drawn  # one view of two; the last may have been cancelled
    frame = frame_of(one)
    assert (frame.codec, frame_of(other).codec) == (SMALL.codec, "jpeg")
    assert np.abs(decoded(split_pictures(frame.payload)).astype(int) - 90).max() <= 2


def test_nobody_waits_for_the_codec_of_another(monkeypatch):
    may_go = threading.Event()
    monkeypatch.setattr(H264, "encode", lambda _, pictures: may_go.wait(60) and [b""] * len(pictures))

    async def watched():
        room, loop = made(Views())
        small, crisp = seated(room, loop, SMALL), seated(room, loop, CRISP)
        playing = asyncio.create_task(loop.run())
        while (shown := frame_of(crisp)) is None:
            assert not playing.done()
            await asyncio.sleep(0.01)
        early, late = frame_of(small), None
        loop.viewers.remove(crisp)  # and who leaves meanwhile disturbs nobody
        may_go.set()
        while late is None:
            await asyncio.sleep(0.01)
            late = frame_of(small)
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        return shown, early, late

    try:
        crisp, early, late = asyncio.run(asyncio.wait_for(watched(), 60))
    finally:
        may_go.set()
    assert (crisp.codec, early, late.codec) == ("jpeg", None, SMALL.codec)


def test_players_ask_for_it_and_simple_clients_still_get_jpeg(server):
    tiers = httpx.get(f"{server.url}/page.json").json()["tiers"]
    assert {"name": "h264", "codec": "avc1.f4001f"} in tiers
    with PlayerThread(server, quality="h264") as player:
        wait_until(lambda: player.frames and player.frames[-1].codec == "avc1.f4001f", "no H.264 came")
        assert decoded(split_pictures(player.frames[-1].payload)).shape[1:] == (64, 64, 3)
    with connect(f"ws://{server.address}/stream?room=home&quality=h264") as socket:
        assert simplejpeg.decode_jpeg(socket.recv()).shape == (64, 64, 3)


def test_a_server_without_an_encoder_offers_the_rest_and_one_without_jpeg_ends(monkeypatch, caplog):
    tiers = serve_config().tiers
    assert [tier.name for tier in build_tiers(tiers)] == ["crisp", "light", "thin", "h264"]
    with pytest.raises(ValueError, match="names of their own"):
        build_tiers([*tiers, tiers[0]])
    monkeypatch.setattr("gamegen_x.serve.h264.ENCODER", "libnothing")
    assert [tier.name for tier in build_tiers(tiers)] == ["crisp", "light", "thin"]
    assert "quality h264 is not offered: this build of PyAV has no libnothing" in caplog.text
    with pytest.raises(ValueError, match="tiers begin with one of gamegen_x"):
        build_tiers(tiers[3:])


def test_impossible_numbers_are_refused():
    with pytest.raises(ValueError, match="a crf from 0 to 51"):
        H264(name="x", crf=60, preset="veryfast", pixel_format="yuv444p")
    with pytest.raises(ValueError, match="'rgb'"):
        H264(name="x", crf=20, preset="veryfast", pixel_format="rgb")
    with pytest.raises(ValueError, match="'veryfst'"):
        H264(name="x", crf=20, preset="veryfst", pixel_format="yuv444p")
