"""What a user sees who hands a command something bad: one message, and before torch is imported where it can be."""

import pickle

import av
import numpy as np
import pytest

from gamegen_x.config import CONFIGS, USER_MISTAKE
from tests.forked_commands import ForkedCommands

ROOT = CONFIGS.parent
WEIGHTS = "weights/snowglobe-tiny"


@pytest.fixture(scope="module")
def commands():
    with ForkedCommands(ROOT) as commands:
        yield commands


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    for name in ("empty", "texts", "train", "val", "half"):
        (folder / name).mkdir()
    (folder / "texts" / "notes.mp4").write_text("this is a text file")
    (folder / "run.ckpt").write_bytes(pickle.dumps({"state_dict": {}}))
    (folder / "half" / "config.json").write_text('{"format": 1, "kind": "causal", "networks": {"vae": {}}}')
    (folder / "half" / "vae.safetensors").write_bytes(pickle.dumps({"weight": list(range(99))}))
    write_video(folder / "one_frame.mp4", num_frames=1)
    return folder


def write_video(path, num_frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.height = stream.width = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())


def mistake_of(command, commands, folder):
    """The one message that a command ends with, and what it has imported."""
    words = [word.format(folder=folder, weights=WEIGHTS) for word in command.split(" ")]
    ended = commands.run(*words)
    assert ended.status == USER_MISTAKE, ended.out + ended.err
    assert ended.out == ""
    assert ended.err.count("error: ") == 1, ended.err
    return ended.err, ended.imported


AT_ONCE = {  # before torch is imported, and so before any network is built
    "a typo": (
        "train.py experiment=snowglobe_vae data.batch_sise=4",
        "unknown key 'data.batch_sise' on the command line; did you mean 'data.batch_size'?",
    ),
    "a wrong type": ("train.py steps=many", "steps: expected integer, got string 'many'"),
    "a wrong type for what is null": ("train.py threads=two", "threads: expected integer, got string 'two'"),
    "no shards": ("train.py data=shards data.dataset.folder={folder}", "{folder}/train has no *.tar in it"),
    "no data": ("train.py experiment=snowglobe_vae data.dataset.folder=nowhere", "nowhere/train does not exist"),
    "weights of another spelling": (
        "sample.py weights=weights/snowglobe-dou",
        "no weights folder weights/snowglobe-dou; did you mean weights/snowglobe-duo?",
    ),
    "no weights": ("train.py task=pretrain weights=nowhere", "no weights folder nowhere; a training ends by writing"),
    "a checkpoint that is a pickle": ("train.py task=pretrain weights={folder}/run.ckpt", "pickles are never read"),
    "weights of another preset": (
        "train.py task=pretrain vae=small weights={weights}",
        "weights/snowglobe-tiny holds a vae of another preset: ",
    ),
    "weights of a stage before": (
        "train.py task=instruct weights={folder}/half",
        "stands on ['text_encoder', 'msdit']",
    ),
    "no perceptual network": (
        "train.py task/perceptual=vgg task.perceptual.weights=nowhere.pth",
        "task.perceptual.weights: no file nowhere.pth; put torchvision's vgg16-397923af.pth there",
    ),
    "no text encoder": (
        "train.py task=pretrain weights={weights} text_encoder=paper text_encoder.path=./nowhere",
        "text_encoder.path: no folder ./nowhere; put the files of google/t5-v1_1-xxl there",
    ),
    "an unknown key in a key string": (
        "sample.py keys=W*4|fly*3 num_players=2",
        "unknown key 'fly'; 'snowglobe' knows ['w', 'a', 's', 'd', 'space', 'e', 'q']",
    ),
    "a key string that is none": ("sample.py keys=W*x", "cannot read 'W*x' in a key string; write it like"),
    "no file of keys": ("sample.py keys=my_keys.txt", "no file my_keys.txt; keys is such a file, or a string like"),
    "keys of more players": ("sample.py keys=W|A|S num_players=2", "keys are given for 3 players"),
    "a wrong type in a sample": ("sample.py num_frames=ten", "num_frames: expected integer, got string 'ten'"),
    "a wrong type of the sampler": (
        "sample.py sampler.num_steps=4.0",
        "sampler.num_steps: expected integer, got number 4.0; write 4",
    ),
    "no first frames": ("sample.py continue_video=nowhere.mp4", "no video file nowhere.mp4"),
    "weights that are pickles": (
        "sample.py weights={folder}/half",
        "is not a safetensors file (pickles are never read)",
    ),
    "an empty weights folder": (
        "sample.py weights={folder}/empty",
        "holds no config.json, so it is not a weights folder",
    ),
    "an unknown kind of file": ("sample.py output=clip.avi", "output=clip.avi ends with neither .mp4 nor .gif"),
    "a checkpoint to measure that is a pickle": (
        "gamegen_x.evaluation checkpoint={folder}/run.ckpt",
        "pickles are never read",
    ),
    "no recordings to measure on": (
        "gamegen_x.evaluation recordings={folder}",
        "no shards (*.tar) and no traces in {folder}/train; make them with",
    ),
    "no checkpoint": (
        "gamegen_x.training.export checkpoint=nowhere output={folder}/w",
        "no checkpoint nowhere; a run keeps them as outputs/<name>/checkpoints/step-<step>",
    ),
    "no videos": (
        "data_pipeline pipeline=gameplay_videos input={folder}/empty output={folder}/out",
        "no videos below {folder}/empty: expected files that end with one of",
    ),
    "no input": (
        "data_pipeline pipeline=gameplay_videos input=nowhere output={folder}/out",
        "input nowhere does not exist; name a folder",
    ),
    "a wrong type in curation": (
        "data_pipeline input={folder} output={folder}/out workers=two",
        "workers: expected integer, got string 'two'",
    ),
    "a text file named mp4": (
        "data_pipeline pipeline=gameplay_videos input={folder}/texts output={folder}/texts_out workers=1",
        "1 of 1 sources are damaged (100%), at most 10% may be",
    ),
    "a wrong type that another key copies": (
        "sample.py num_players=2.5",
        "error: num_players: expected integer, got number 2.5",
    ),
    "a wrong type in recording": (
        "gamegen_x.games.record output={folder}/traces num_episodes=2.5",
        "num_episodes: expected integer, got number 2.5",
    ),
}
BEFORE_NETWORKS = {  # videos are read with torch at hand
    "a text file named mp4 to go on from": (
        "sample.py continue_video={folder}/texts/notes.mp4",
        "notes.mp4 is not a readable video: ",
    ),
    "a video of one frame": (
        "sample.py continue_video={folder}/one_frame.mp4",
        "one_frame.mp4 has 1 frames, 8 are needed; give a longer video or ask for fewer",
    ),
    "an unknown solver": ("sample.py sampler.solver=rk4", "sampler.solver is one of ['euler', 'heun'], got 'rk4'"),
}


@pytest.mark.parametrize("case", AT_ONCE)
def test_a_mistake_is_said_before_torch_is_imported(case, commands, folder):
    command, said = AT_ONCE[case]
    message, imported = mistake_of(command, commands, folder)
    assert said.format(folder=folder) in message
    assert not imported


@pytest.mark.parametrize("case", BEFORE_NETWORKS)
def test_a_mistake_is_said_before_networks_are_loaded(case, commands, folder):
    command, said = BEFORE_NETWORKS[case]
    message, imported = mistake_of(command, commands, folder)
    assert said in message
    assert imported == ["torch"]
