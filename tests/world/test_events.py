import numpy as np

from gamegen_x.world.events import Event, Scope, heard_by
from gamegen_x.world.sphere import Cells

CELLS = Cells(4)


def test_each_scope_reaches_its_listeners_in_order():
    positions = np.stack([CELLS.centres[0], CELLS.centres[0], -CELLS.centres[0]])
    everywhere = Event("delivered", Scope.GLOBAL, -1)
    here = Event("chased", Scope.CELL, 0)
    personal = Event("met", Scope.PLAYER, 1, subject=0)
    heard = heard_by((personal, here, everywhere), positions, CELLS)
    assert heard == [(here, everywhere), (personal, here, everywhere), (everywhere,)]


def test_neighbours_of_a_cell_hear_what_happens_in_it():
    for neighbour in CELLS.neighbours(20):
        assert heard_by((Event("chased", Scope.CELL, 20),), CELLS.centres[[neighbour]], CELLS)[0]
