"""Our small T5 against the library's, which it stands for; and what our byte-level encoder promises of texts."""

import subprocess
import sys

import pytest
import torch

from gamegen_x.models.layers.t5 import T5Encoder
from gamegen_x.models.text_encoder import VOCABULARY, ByteT5TextEncoder

from transformers import ByT5Tokenizer, T5Config, T5EncoderModel  # isort: skip  (gamegen_x lets its torchvision load)

SHAPE = {"dim": 24, "num_layers": 3, "num_heads": 2, "feed_forward": 40}


def of_the_library():
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=24,
        d_kv=12,
        d_ff=40,
        num_layers=3,
        num_heads=2,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config)


@pytest.fixture(scope="module")
def ours():
    torch.manual_seed(0)
    return T5Encoder(VOCABULARY, **SHAPE).eval()


@pytest.fixture(scope="module")
def theirs(ours):
    model = of_the_library().eval()
    model.load_state_dict(ours.state_dict())  # strict: every name is one of the library's
    return model


@pytest.mark.parametrize("length", [1, 7, 200])
def test_it_is_the_librarys_encoder(ours, theirs, length):
    generator = torch.Generator().manual_seed(length)
    tokens = torch.randint(0, VOCABULARY, (3, length), generator=generator)
    is_there = torch.rand(3, length, generator=generator) < 0.6
    is_there[:, 0] = True
    expected = theirs(input_ids=tokens, attention_mask=is_there.long()).last_hidden_state
    torch.testing.assert_close(ours(tokens, is_there), expected, atol=1e-5, rtol=1e-4)


def test_it_begins_as_widely_spread_as_the_librarys(ours):
    begun = of_the_library().state_dict()
    for name, weight in ours.state_dict().items():
        if weight.numel() > 200:
            assert float(weight.std()) == pytest.approx(float(begun[name].std()), rel=0.2), name


def test_texts_are_the_bytes_that_the_librarys_tokenizer_sees():
    texts = ["Let it snow.", "Ein Fluss – läuft.", "", "雪" * 100]
    torch.manual_seed(0)
    encoder = ByteT5TextEncoder(**SHAPE, max_bytes=32, pool=4).eval()
    seen = []
    encoder.t5.register_forward_hook(lambda _module, given, _made: seen.append(given[0]))
    tokens, mask = encoder.encode(texts)
    rows = ByT5Tokenizer()(texts, add_special_tokens=False, truncation=True, max_length=32)["input_ids"]
    assert [row[row > 0].tolist() for row in seen[0]] == rows
    assert tokens.shape == (4, 8, 24)
    assert mask.sum(1).tolist() == [3, 6, 0, 8]


def test_an_encoding_does_not_depend_on_who_else_is_in_the_batch():
    encoder = ByteT5TextEncoder(**SHAPE, max_bytes=32, pool=4).eval()
    alone, _ = encoder.encode(["Make it night."])
    beside, _ = encoder.encode(["Make it night.", "a much longer sentence than that"])
    torch.testing.assert_close(beside[:1], alone)


def test_nothing_of_the_library_is_imported_for_it():
    """It takes seconds, for which every sample and every server would wait."""
    code = (
        "import sys; from gamegen_x.models.text_encoder import ByteT5TextEncoder; "
        "ByteT5TextEncoder(dim=8, num_layers=1, num_heads=1, feed_forward=8, max_bytes=8, pool=4).encode(['a']); "
        "assert 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
