"""The model's process tells the model what the room knows to be true."""

import os
import sys
from multiprocessing.shared_memory import SharedMemory
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from snowglobes import snowglobe

from gamegen_x.config import CONFIGS, build
from gamegen_x.data.state import Drawing
from gamegen_x.games.dynamics import RulesDynamics
from gamegen_x.sampling.stream_sampler import StreamSampler
from gamegen_x.serve import model_worker
from gamegen_x.serve.model_worker import (
    CloseRequest,
    Drawn,
    DrawRequest,
    Past,
    Shape,
    Stepped,
    Worker,
    WorkerSettings,
)
from gamegen_x.world.facts import stepped
from tests.sampling.test_stream_sampler import LIVE, SAMPLER, SIZE, some_networks


class Said(list):
    send = list.append


def test_a_room_that_tells_the_truth_gets_other_pictures_than_one_that_does_not():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        settings = build(compose("train", ["data=snowglobe", "state=map", "output=unused"]).data.state)
    keys = tuple("wasdxeq")
    networks = some_networks(state_channels=settings.drawer.num_channels, names=keys)
    sampler = StreamSampler(networks, SAMPLER, **LIVE)
    shape = Shape(4, SIZE, SIZE, keys, 24.0, True)
    drawing = Drawing(settings, (SIZE // 8, SIZE // 8), (SIZE, SIZE))
    held = np.zeros((12, 2, 7), np.uint8)
    facts = stepped(RulesDynamics(snowglobe()).fresh(3, "val"), held)[1]
    frames = np.zeros((8, SIZE, SIZE, 3), np.uint8)

    def drawn(is_told):
        memory = np.zeros(shape.room_bytes, np.uint8)
        worker, said = Worker(sampler, drawing, sampler.times, sampler.times, memory, shape), Said()
        now, before = ({name: values[part] for name, values in facts.items()} for part in (slice(8, 12), slice(0, 8)))
        past = Past(frames, np.zeros((8, 7), np.uint8), before if is_told else None)
        request = DrawRequest(
            number=1, region=0, session=5, keys=np.zeros((3, 4, 7), np.uint8), seats=(0, 1),
            newcomers={0: past, 1: past},
            prompt="", instruction="", facts=now if is_told else None, is_fresh=True, is_hurried=False,
        )  # fmt: skip
        worker.draw([request], said)
        assert [type(one) for one in said] == [Drawn, Stepped]
        return torch.from_numpy(memory.copy())

    told = drawn(True)
    assert torch.equal(told, drawn(True))
    assert not torch.equal(told, drawn(False))


def test_rooms_get_their_pictures_as_soon_as_they_are_drawn():
    """Two rooms of different sizes, each in a pass of its own: the second is drawn when the first has its pictures."""
    keys = tuple("wasdxeq")
    sampler = StreamSampler(some_networks(names=keys), SAMPLER, **{**LIVE, "pass_players": 0.0})
    shape = Shape(4, SIZE, SIZE, keys, 24.0, False)
    memory = np.zeros(2 * shape.room_bytes, np.uint8)
    worker = Worker(sampler, None, sampler.times, sampler.times, memory, shape)
    rooms = memory.reshape(2, -1)
    seen = []

    class Pipe:
        def send(self, said):
            seen.append((said, [bool(room.any()) for room in rooms], [worker.streams[i].tick for i in (0, 1)]))

    def request(number, region, seats):
        newcomers = dict.fromkeys(seats)
        held = np.zeros((3, 4, 7), np.uint8)
        return DrawRequest(number, region, 5, held, seats, newcomers, "", "", None, True, False)

    worker.draw([request(7, 1, (0, 1)), request(8, 0, (0,))], Pipe())
    said = [each for each, _, _ in seen]
    assert [type(each) for each in said] == [Drawn, Drawn, Stepped]
    assert {each.number: there for each, there, _ in seen[:2]} in (
        {7: [False, True], 8: [True, True]},
        {8: [True, False], 7: [True, True]},
    )
    assert [ticks for _, _, ticks in seen] == [[0, 0], [0, 0], [1, 1]]
    assert said[-1].num_rooms == 2


def test_of_a_room_that_asks_again_only_the_newest_request_is_drawn():
    requests = [SimpleNamespace(number=number, region=region) for number, region in ((1, 0), (2, 1), (3, 0), (4, 2))]
    coming = [*requests, CloseRequest(2)]
    pipe = SimpleNamespace(poll=lambda _: bool(coming), recv=lambda: coming.pop(0))
    closed = []
    worker = SimpleNamespace(close=closed.append)
    assert [each.number for each in model_worker._requests(pipe, worker)] == [3, 2]
    assert closed == [CloseRequest(2)]


def test_it_gives_way_only_once_it_is_loaded(monkeypatch):
    done = []
    for name, value in (("begin_child", None), ("_load", (None, None, None)), ("_warm_up", None), ("_drawing", None)):
        monkeypatch.setattr(model_worker, name, lambda *_, name=name, value=value: (done.append(name), value)[1])
    monkeypatch.setattr(model_worker, "give_way", lambda niceness: done.append(niceness))
    pipe = SimpleNamespace(send=lambda said: done.append(said.percent), recv=lambda: (_ for _ in ()).throw(EOFError))
    rules = WorkerSettings("", "cpu", torch.get_num_threads(), 5, "fp32", True, 4.0, None, 1)
    memory = SharedMemory(create=True, size=8)
    try:
        model_worker.run(pipe, memory.name, Shape(4, 8, 8, (), 24.0, False), rules)
    finally:
        memory.unlink()
    assert done == ["begin_child", 10, 40, "_load", 70, "_warm_up", "_drawing", 5, 100]


@pytest.mark.parametrize(("chosen", "holds"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_of_the_model_leave_the_cores_to_others_unless_somebody_chose_otherwise(
    monkeypatch, chosen, holds
):
    monkeypatch.setenv("OMP_WAIT_POLICY", chosen or "")
    if chosen is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setattr(model_worker, "begin_child", lambda: None)
    monkeypatch.setitem(sys.modules, "torch", None)  # what holds when torch is imported: later is too late
    rules = WorkerSettings(
        "", "cpu", 2, 0, "fp32", uses_small_decoder=True, pass_players=4.0, num_steps=None, fewer_steps=1
    )
    with pytest.raises(ImportError, match="torch"):
        model_worker.run(Said(), "", Shape(4, 8, 8, (), 24.0, False), rules)
    assert os.environ["OMP_WAIT_POLICY"] == holds
