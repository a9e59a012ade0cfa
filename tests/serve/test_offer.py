"""What rooms a server can have, by its weights, and what it says where it can have none."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from servers import serve_config

from gamegen_x.serve.lobby import MODEL, TRUTH, RoomOrder
from gamegen_x.serve.offer import offer_of

WEIGHTS = Path(__file__).parents[2] / "weights"
DOOM = WEIGHTS / "vizdoom-duel"


def test_weights_of_the_rooms_game_are_drawn_beside_the_game_itself():
    offer = offer_of(serve_config("world=model", f"weights={WEIGHTS / 'snowglobe-duo'}"))
    assert (offer.worlds, offer.num_players, offer.is_learned) == ((MODEL, TRUTH), range(1, 9), False)
    assert "Let it snow." in offer.sentences
    assert offer_of(serve_config()).worlds == (TRUTH,)


def test_weights_of_another_game_bring_its_truth_along():
    offer = offer_of(serve_config("world=model", f"weights={DOOM}"))
    assert (offer.worlds, offer.cameras, offer.num_players) == ((MODEL,), ("first_person",), range(1, 3))
    assert offer.is_learned
    assert not offer.sentences
    offer.check(RoomOrder("r", MODEL, 1, "first_person", 0))
    for order, said in (
        (RoomOrder("r", TRUTH, 2, "first_person", 0), "has the worlds model, got 'truth'"),
        (RoomOrder("r", MODEL, 3, "first_person", 0), "1 to 2 players, got 3"),
        (RoomOrder("r", MODEL, 2, "overhead", 0), "learned the camera 'first_person', got 'overhead'"),
    ):
        with pytest.raises(ValueError, match=said):
            offer.check(order)


@pytest.mark.parametrize(
    ("num_players", "is_egocentric", "possible"), [(3, False, [3]), (3, True, [1, 2, 3]), (9, True, list(range(1, 9)))]
)
def test_rooms_have_as_many_players_as_the_network_steps(tmp_path, num_players, is_egocentric, possible):
    config = json.loads((DOOM / "config.json").read_text())
    config["networks"]["transition"].update(num_players=num_players, egocentric=is_egocentric)
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert list(offer_of(serve_config("world=model", f"weights={tmp_path}")).num_players) == possible


def test_weights_of_another_game_without_a_truth_are_refused(tmp_path):
    config = json.loads((DOOM / "config.json").read_text())
    del config["networks"]["transition"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    said = r"draws another game .* left right space.* Snowglobe, has .* e q, .*transition network.*sample\.py"
    with pytest.raises(ValueError, match=said):
        offer_of(serve_config("world=model", f"weights={tmp_path}"))


def test_a_server_whose_first_room_cannot_be_opened_ends_and_says_why(tmp_path):
    command = [sys.executable, "-m", "gamegen_x.serve", "world=truth", "port=0", "cameras=[overhead]"]
    command += ["game.camera=third_person", f"recording.folder={tmp_path}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode
    assert "cameras are overhead, got 'third_person'" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("weights", ["snowglobe-duo", "vizdoom-duel"])
def test_every_key_of_the_shipped_weights_has_words_on_the_page(weights):
    cfg = serve_config("world=model", f"weights={WEIGHTS / weights}")
    keys = json.loads((WEIGHTS / weights / "config.json").read_text())["action_space"]["keys"]
    assert set(cfg.does[offer_of(cfg).action_space]) == set(keys)
