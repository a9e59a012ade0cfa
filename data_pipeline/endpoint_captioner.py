"""EndpointCaptioner: a vision-language model behind an OpenAI-compatible endpoint describes eight frames."""

from __future__ import annotations

import base64
import json
import os
import time
from dataclasses import dataclass, field
from typing import Any

import cv2
import httpx
import numpy as np

from data_pipeline.clip import Clip, Frames, spread
from data_pipeline.stage import NOT_IN_IDENTITY
from data_pipeline.stages.caption_clips import Captioner, CaptionError
from data_pipeline.stages.filter_motion import narrowed
from gamegen_x.schema.caption import Caption

# An endpoint refuses one clip, not all of them, by these statuses or, with status 400, these codes in its answer.
CLIP_STATUSES = (413, 422)
BAD_REQUEST = 400
CLIP_CODES = ("content_filter", "content_policy_violation", "context_length_exceeded")

GRID_ROWS, GRID_COLUMNS = 2, 4


@dataclass(frozen=True)
class EndpointCaptioner(Captioner):
    """Posts each view as one picture, a grid of 2x4 frames in order of time, and reads the caption's fields as JSON.

    `base_url` ends before `/chat/completions`, e.g. `http://localhost:8000/v1`. `api_key_variable` names the variable
    of the environment that holds the key, if one is needed. Failures that may pass (no connection, time out, status
    408, 409, 425, 429 and 5xx) are tried again after `backoff_s`, doubled each time, or after what the server asks for.
    """

    base_url: str = field(metadata=NOT_IN_IDENTITY)
    model: str
    api_key_variable: str = field(metadata=NOT_IN_IDENTITY)
    prompt: str
    max_tokens: int
    frame_width: int  # pixels of one frame in the grid
    timeout_s: float = field(metadata=NOT_IN_IDENTITY)
    max_attempts: int = field(metadata=NOT_IN_IDENTITY)
    backoff_s: float = field(metadata=NOT_IN_IDENTITY)
    max_backoff_s: float = field(metadata=NOT_IN_IDENTITY)

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(f"base_url is an address such as http://localhost:8000/v1, got {self.base_url!r}")
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts is 1 or more, got {self.max_attempts}")

    def caption(self, clip: Clip) -> Caption:
        pictures = [{"type": "image_url", "image_url": {"url": self._data_url(view)}} for view in clip.views]
        request = {
            "model": self.model,
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "response_format": {"type": "json_object"},
            "messages": [{"role": "user", "content": [{"type": "text", "text": self.prompt}, *pictures]}],
        }
        mistake = ""
        for _ in range(self.max_attempts):
            answer = self._post(request)
            try:
                return _caption_in(answer)
            except (ValueError, KeyError, TypeError, IndexError, AttributeError) as problem:
                mistake = f"{type(problem).__name__}: {problem}"
        raise CaptionError("unreadable caption", f"{self.max_attempts} answers, the last one: {mistake[:200]}")

    def _data_url(self, view: Frames) -> str:
        picture = cv2.imencode(".jpg", cv2.cvtColor(grid(view, self.frame_width), cv2.COLOR_RGB2BGR))[1]
        return f"data:image/jpeg;base64,{base64.b64encode(picture.tobytes()).decode()}"

    def _post(self, request: dict[str, Any]) -> Any:
        """The answer's JSON.

        Raises CaptionError when the endpoint refuses this clip, ValueError when it refuses all or does not answer.
        """
        url = f"{self.base_url.rstrip('/')}/chat/completions"
        key = os.environ.get(self.api_key_variable, "") if self.api_key_variable else ""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        problem, wait = "", 0.0
        for attempt in range(self.max_attempts):
            time.sleep(wait)
            wait = min(self.backoff_s * 2**attempt, self.max_backoff_s)
            try:
                response = httpx.post(url, json=request, headers=headers, timeout=self.timeout_s)
            except httpx.TransportError as failure:
                problem = f"{type(failure).__name__} {failure}".strip()
                continue
            if response.status_code in (408, 409, 425, 429) or response.status_code >= 500:
                problem = f"status {response.status_code}"
                wait = min(max(wait, _seconds(response.headers.get("retry-after", ""))), self.max_backoff_s)
                continue
            is_bad_clip = response.status_code == BAD_REQUEST and any(code in response.text for code in CLIP_CODES)
            if is_bad_clip or response.status_code in CLIP_STATUSES:
                raise CaptionError("refused caption", f"status {response.status_code}: {response.text[:200]}")
            if response.is_error:
                raise ValueError(
                    f"the caption endpoint {url} refuses (status {response.status_code}): {response.text[:200]}; "
                    f"check the model {self.model!r} and the key in ${self.api_key_variable or '...'}"
                )
            try:
                return response.json()
            except ValueError:
                problem = f"an answer that is not JSON: {response.text[:80]!r}"
        raise ValueError(
            f"the caption endpoint {url} failed {self.max_attempts} times, at last with: {problem}. "
            "What is finished is kept: start the endpoint and run the same command again"
        )


def grid(frames: Frames, frame_width: int) -> Frames:
    """Eight frames spread over "t h w 3", in two rows of four; a shorter clip repeats its last."""
    chosen = [narrowed(frame, frame_width) for frame in spread(frames, GRID_ROWS * GRID_COLUMNS)]
    chosen += [chosen[-1]] * (GRID_ROWS * GRID_COLUMNS - len(chosen))
    rows = [np.hstack(chosen[row * GRID_COLUMNS : (row + 1) * GRID_COLUMNS]) for row in range(GRID_ROWS)]
    return np.vstack(rows)


def _caption_in(answer: Any) -> Caption:
    text = answer["choices"][0]["message"]["content"].strip()
    if text.startswith("```"):  # some models wrap their JSON in a code block
        text = text.strip("`").removeprefix("json")
    value = json.loads(text)
    if not isinstance(value, dict) or not isinstance(value.get("summary"), str):
        raise ValueError(f'expected a JSON object with a "summary", got {text[:80]!r}')
    fields = {name: item for name, item in value.items() if isinstance(item, str)}
    return Caption.from_dict({**fields, "summary": Caption.cut(fields["summary"])})


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.replace(".", "", 1).isdigit() else 0.0
