import numpy as np
import pytest
import simplejpeg

from gamegen_x.serve.frame_codec import EncodedBlock, Jpeg, join_pictures, shrunk, split_pictures

CRISP, THIN = Jpeg(name="crisp", quality=92, subsampling="444"), Jpeg(name="thin", quality=40, subsampling="420")


def picture(seed):
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    return np.stack(
        [np.add.outer(ramp // 2, ramp // 2), np.full((64, 64), seed, np.uint8), ramp * np.ones((64, 1), np.uint8)], -1
    )


def test_a_picture_survives_its_codec():
    jpeg = CRISP.encode_one(picture(90))
    again = simplejpeg.decode_jpeg(jpeg, colorspace="RGB")
    assert np.abs(again.astype(int) - picture(90)).mean() < 2
    assert len(THIN.encode_one(picture(90))) < len(jpeg)


def test_pictures_of_a_payload_are_told_apart():
    parts = [b"", b"one", b"\x00" * 300]
    assert split_pictures(join_pictures(parts)) == parts


@pytest.mark.parametrize("cut", [1, 3, 6])
def test_a_payload_that_is_cut_short_is_refused(cut):
    with pytest.raises(ValueError, match="ends inside"):
        split_pictures(join_pictures([b"pictur"])[:-cut] if cut < 6 else b"\x01\x00")


def test_a_halved_tier_sends_a_quarter_of_the_pixels_that_look_alike():
    half = CRISP.halved()
    assert (half.quality, half.every, half.shrink, half.halved().shrink) == (92, 1, 2, 4)
    jpeg = half.encode_one(picture(90))
    again = simplejpeg.decode_jpeg(jpeg, colorspace="RGB").astype(int)
    assert again.shape == (32, 32, 3)
    assert np.abs(again.repeat(2, 0).repeat(2, 1) - picture(90)).mean() < 4
    assert len(jpeg) < 0.7 * len(CRISP.encode_one(picture(90)))
    assert shrunk(np.zeros((33, 65, 3), np.uint8), 2).shape == (16, 32, 3)


def test_a_view_is_encoded_once_for_each_tier(monkeypatch):
    encoded = []
    monkeypatch.setattr(Jpeg, "encode", lambda tier, _: encoded.append(tier.name) or [b"jpeg"])
    block = EncodedBlock([[picture(1), picture(2)]])
    for _ in range(5):
        assert block.payload(0, CRISP) == block.payload(0, CRISP)
        block.payload(1, THIN)
    assert encoded == ["crisp", "thin"]


def test_a_tier_with_impossible_numbers_is_refused():
    with pytest.raises(ValueError, match="quality from 1 to 100"):
        Jpeg(name="best", quality=200, subsampling="444")
    with pytest.raises(ValueError, match="'999'"):
        Jpeg(name="odd", quality=90, subsampling="999")
    with pytest.raises(ValueError, match="every and shrink"):
        Jpeg(name="flat", quality=90, subsampling="444", shrink=0)
