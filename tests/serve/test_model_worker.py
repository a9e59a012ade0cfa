"""The model's process tells the model what the room knows to be true."""

import os
import sys

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
from gamegen_x.serve.model_worker import DrawRequest, Past, Shape, Worker, WorkerSettings
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
        assert [type(one).__name__ for one in said] == ["Drawn"]
        return torch.from_numpy(memory.copy())

    told = drawn(True)
    assert torch.equal(told, drawn(True))
    assert not torch.equal(told, drawn(False))


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
