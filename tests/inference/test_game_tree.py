"""The games of a model are those of its rule, followed one by one."""

import numpy as np
import pytest

from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.environments.tic_tac_toe import Tree, transcript, walk
from jaxgpt.errors import UsageError
from jaxgpt.inference import game_tree
from tests.support.players import RulePlayer, count_games

TOKENIZER = ByteTokenizer()


def test_every_game_is_counted():
    player, positions = RulePlayer.of((5, 1, 3, 7, 9, 2, 4, 6, 8), blind=(7, 2)), []
    choose = game_tree.make_player(player, TOKENIZER, positions.append)
    for side in (0, 1):
        assert np.array(walk(choose, side)).tolist() == count_games(player.answer, side).tolist()
    assert sum(positions) > max(positions) == game_tree.BATCH  # several batches, which are filled up


def test_an_answer_that_does_not_end_is_no_move():
    player = RulePlayer.of(end="5")
    choose = game_tree.make_player(player, TOKENIZER)
    assert choose([transcript(()), transcript((1, 2))]) == [("15", False), ("35", False)]
    assert (walk(choose, 0), walk(choose, 1)) == (Tree(illegal=1), Tree(illegal=9))


def test_a_context_has_room_for_the_longest_game():
    game_tree.require_room(19, TOKENIZER)
    with pytest.raises(UsageError, match="context is 18 tokens, and a game has up to 19"):
        game_tree.require_room(18, TOKENIZER)
