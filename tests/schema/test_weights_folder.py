import json
import pickle
import re

import pytest

from gamegen_x.schema.weights_folder import (
    as_learned,
    check_files,
    players_together,
    read_config,
    warn_of_players,
    warn_of_sentence,
)

CONFIG = {"format": 1, "kind": "causal", "networks": {"vae": {"_target_": "gamegen_x.models.vae.VideoVAE"}}}
HEADER = json.dumps({"weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
SAFETENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)


def test_a_whole_folder_passes(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vae.safetensors").write_bytes(SAFETENSORS)
    check_files(tmp_path, read_config(tmp_path)["networks"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not readable JSON"),
        ("[]", "has format 'list', this code reads format 1"),
        (json.dumps(CONFIG | {"format": 9}), "has format 9, this code reads format 1"),
        (json.dumps(CONFIG | {"kind": "odd"}), "has kind 'odd', expected one of"),
        (json.dumps(CONFIG | {"networks": ["vae"]}), "does not say under 'networks'"),
    ],
)
def test_a_foreign_config_is_refused(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path)


def test_networks_of_others_need_no_file(tmp_path):
    check_files(tmp_path, {"text_encoder": {"path": "google/t5-v1_1-xxl"}})


@pytest.mark.parametrize(
    ("learned", "asked", "said"),
    [
        (1, 1, None),
        (1, 2, "draw each view by itself: 2 players are obeyed, but do not see each other"),
        (2, 2, None),
        (2, 3, "learned from 2 players at a time, 3 are asked for"),
        (None, 8, None),
    ],
)
def test_warn_of_players_than_weights_have_seen_together_are_warned_of(learned, asked, said):
    warning = warn_of_players(learned, asked)
    assert warning is None if said is None else said in warning


@pytest.mark.parametrize(
    ("learned", "sentence", "said"),
    [
        (None, "A dragon comes.", None),  # nobody knows
        ([], "Let it snow.", "learned from no sentences"),
        (["Let it snow."], "Let it snow.", None),
        (["Let it snow."], "", None),
        (
            ["Let it snow.", "Make it night."],
            "A dragon comes.",
            "'A dragon comes.'.* of the 2 they know: Let it snow. Make",
        ),
        ([f"Do {i}." for i in range(20)], "A dragon comes.", r"of the 20 they know: (Do \d+\. ?){7}$"),
    ],
)
def test_a_sentence_that_weights_never_heard_is_warned_of_with_some_that_they_did(learned, sentence, said):
    warning = warn_of_sentence({"sentences": learned}, sentence)
    assert warning is None if said is None else re.search(said, warning)


def test_a_sentence_is_told_as_it_was_learned():
    config = {"sentences": ["Make it night.", "Let it snow."]}
    assert as_learned(config, "let it SNOW") == "Let it snow."
    assert as_learned(config, "let it rain") == as_learned({}, "let it rain") == "let it rain"


def test_what_is_no_weights_folder_says_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError, match="weights/snowglobe-tiny"):
        read_config(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"holds no config.json, .* it holds \[\]"):
        read_config(tmp_path)
    notes = tmp_path / "notes.ckpt"
    notes.write_bytes(pickle.dumps({"state_dict": {}}))
    with pytest.raises(FileNotFoundError, match=r"it holds \['notes.ckpt'\]"):
        read_config(tmp_path)
    with pytest.raises(ValueError, match=r"is a file, .* pickles are never read.* gamegen_x.training.export"):
        read_config(notes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps({"weight": [0.0, 1.0]} | dict.fromkeys("abcdefgh", "x" * 99)), "pickles are never read"),
        (b"", "pickles are never read"),
        (SAFETENSORS[:-3], "was cut short"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00[]", "not a safetensors file"),
    ],
)
def test_a_file_that_is_no_whole_safetensors_file_is_refused(tmp_path, content, message):
    (tmp_path / "vae.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        check_files(tmp_path, {"vae": {}})


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*msdit.safetensors"):
        check_files(tmp_path, {"msdit": {}})


@pytest.mark.parametrize(
    ("num_players", "slots", "stepped", "together"),
    [(None, 8, 2, None), (2, 8, 2, 2), (1, 8, 2, 2), (1, 1, 2, 1), (1, 8, None, 1)],
)
def test_views_show_others_together_or_by_being_told_where_they_stand(num_players, slots, stepped, together):
    networks = {} if stepped is None else {"transition": {"num_players": stepped}}
    config = {"num_players": num_players, "drawn_state": {"drawer": {"num_slots": slots}}, "networks": networks}
    assert players_together(config) == together
