"""Films: panes side by side in one MP4, with titles, keys and words drawn on them."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from einops import rearrange

from gamegen_x.evaluation.answer import Film, Pane
from gamegen_x.sampling.video_file import write_video

Picture = npt.NDArray[np.uint8]  # height, width, 3
Colour = tuple[int, int, int]

PAPER: Colour = (255, 255, 255)
INK: Colour = (15, 23, 42)
GREY: Colour = (100, 116, 139)
BLUE: Colour = (37, 99, 235)
FONT = cv2.FONT_HERSHEY_SIMPLEX
MARGIN, TITLE_HEIGHT, KEY_SIZE, KEY_GAP = 6, 22, 20, 3  # pixels of the enlarged picture


def film_as_data_url(film: Film, keys: Mapping[int, str], min_pane_width: int, fps: float, crf: int) -> str:
    """The film as a `data:` URL that a page plays without any other file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_video(path, compose(film, keys, min_pane_width), fps, crf)
        return "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()


def compose(film: Film, keys: Mapping[int, str], min_pane_width: int) -> npt.NDArray[np.uint8]:
    """All panes side by side, `[t h w 3]`, as long as the longest. A pane that has ended turns pale.

    `keys` names the keys that are drawn, by their place in the action vector.
    """
    num_frames = max(len(pane.frames) for pane in film.panes)
    rows = [
        np.concatenate([_pane(pane, frame, keys, min_pane_width) for pane in film.panes], axis=1)
        for frame in range(num_frames)
    ]
    film_frames = np.stack(rows)
    odd_height, odd_width = film_frames.shape[1] % 2, film_frames.shape[2] % 2  # H.264 wants even sizes
    return np.pad(film_frames, ((0, 0), (0, odd_height), (0, odd_width), (0, 0)), constant_values=PAPER[0])


def _pane(pane: Pane, frame: int, keys: Mapping[int, str], min_width: int) -> Picture:
    shown = min(frame, len(pane.frames) - 1)
    small = rearrange(pane.frames[shown].numpy(), "c h w -> h w c")
    scale = max(1, -(-min_width // small.shape[1]))
    picture = small.repeat(scale, axis=0).repeat(scale, axis=1)
    if frame > shown:
        picture = _mixed(picture, PAPER, 0.75)
    elif pane.actions is not None:
        num_players = pane.actions.shape[1]
        for player, held in enumerate(pane.actions[frame].numpy()):
            _draw_keys(picture, held, keys, bottom=len(picture) * (player + 1) // num_players)
    if frame <= shown and pane.words and pane.words[frame]:
        _draw_words(picture, pane.words[frame])
    status = "ended" if frame > shown else "real beginning" if frame < pane.context_frames else ""
    return _framed(picture, pane.title, status)


def _framed(picture: Picture, title: str, status: str) -> Picture:
    height, width = picture.shape[:2]
    framed = np.full((height + TITLE_HEIGHT + MARGIN, width + 2 * MARGIN, 3), PAPER, np.uint8)
    framed[TITLE_HEIGHT : TITLE_HEIGHT + height, MARGIN : MARGIN + width] = picture
    _write(framed, title, (MARGIN, TITLE_HEIGHT - 7), INK)
    if status:
        (text_width, _), _ = cv2.getTextSize(status, FONT, 0.42, 1)
        _write(framed, status, (MARGIN + width - text_width, TITLE_HEIGHT - 7), GREY)
    return framed


def _draw_keys(picture: Picture, held: npt.NDArray[np.float32], keys: Mapping[int, str], bottom: int) -> None:
    """Rows of key caps above `bottom`, as many as they need and the picture has; those that are held are filled."""
    rows = _rows_of_caps(keys, picture.shape[1] - MARGIN)
    for place, row in enumerate(rows):
        foot = bottom - MARGIN - (len(rows) - 1 - place) * (KEY_SIZE + KEY_GAP)
        if foot < KEY_SIZE:
            continue
        for number, label, text_width, cap in row:
            is_held = bool(held[number] > 0)
            there = (slice(foot - KEY_SIZE, foot), cap)
            picture[there] = _mixed(picture[there], BLUE if is_held else PAPER, 0.9 if is_held else 0.35)
            left = cap.start + (cap.stop - cap.start - text_width) // 2
            _write(picture, label, (left, foot - 6), PAPER if is_held else INK)


def _rows_of_caps(keys: Mapping[int, str], right: int) -> list[list[tuple[int, str, int, slice]]]:
    """Key caps, row by row: number, label, its width, and columns of the picture, as a rule none beyond `right`."""
    rows: list[list[tuple[int, str, int, slice]]] = [[]]
    left = MARGIN
    for number, name in keys.items():
        label = name.upper() if len(name) == 1 else name
        (text_width, _), _ = cv2.getTextSize(label, FONT, 0.42, 1)
        width = max(KEY_SIZE, text_width + 8)
        if rows[-1] and left + width > right:
            rows.append([])
            left = MARGIN
        rows[-1].append((number, label, text_width, slice(left, left + width)))
        left += width + KEY_GAP
    return rows


def _draw_words(picture: Picture, words: str) -> None:
    band = (slice(0, TITLE_HEIGHT), slice(None))
    picture[band] = _mixed(picture[band], INK, 0.8)
    _write(picture, words, (MARGIN, TITLE_HEIGHT - 7), PAPER)


def _mixed(picture: Picture, colour: Colour, share: float) -> Picture:
    return (picture * (1 - share) + np.array(colour) * share).astype(np.uint8)


def _write(picture: Picture, text: str, place: tuple[int, int], colour: Colour) -> None:
    cv2.putText(picture, text, place, FONT, 0.42, colour, 1, cv2.LINE_AA)
