# Copyright (c) reducenet_mm contributors. Licensed under Apache-2.0.
"""Which JPEG files count as cut off."""

from __future__ import annotations

import cv2
import mmcv
import numpy as np
import pytest

from reducenet_mm.datasets import LoadReadableImage
from reducenet_mm.datasets.readable import is_cut_jpeg

KINDS = {
    'baseline': (),
    'progressive': (cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    'restarts': (cv2.IMWRITE_JPEG_RST_INTERVAL, 1),
    'progressive_restarts': (
        cv2.IMWRITE_JPEG_PROGRESSIVE,
        1,
        cv2.IMWRITE_JPEG_RST_INTERVAL,
        1,
    ),
}
END = b'\xff\xd9'


def jpeg(kind: str = 'baseline', seed: int = 0) -> bytes:
    generator = np.random.RandomState(seed)
    pixels = generator.randint(0, 256, (18, 40, 3), np.uint8)
    return cv2.imencode('.jpg', pixels, KINDS[kind])[1].tobytes()


def with_preview(data: bytes) -> bytes:
    """Put a whole JPEG file into a segment APP1, as cameras do."""
    preview = jpeg(seed=1)
    length = (len(preview) + 2).to_bytes(2, 'big')
    return data[:2] + b'\xff\xe1' + length + preview + data[2:]


def decode(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


def test_the_kinds_are_what_they_say():
    assert jpeg('progressive').count(b'\xff\xda') > 1
    for kind in KINDS:
        restarts = jpeg(kind).count(b'\xff\xd0')
        assert (restarts > 0) == kind.endswith('restarts')


@pytest.mark.parametrize('kind', KINDS)
def test_jpegs_are_cut_wherever_they_end_before_their_end(kind):
    for whole in (jpeg(kind), with_preview(jpeg(kind))):
        assert not is_cut_jpeg(whole)
        for end in range(3, len(whole)):
            assert is_cut_jpeg(whole[:end]), end
        last_scan = whole.rfind(b'\xff\xda')
        zeros = bytes(len(whole) - last_scan - 20)  # as after a lost write
        assert is_cut_jpeg(whole[: last_scan + 20] + zeros)


@pytest.mark.parametrize('kind', KINDS)
def test_what_follows_the_picture_does_not_matter(kind):
    whole = jpeg(kind)
    other = jpeg(seed=1)
    film = b'\0\0\0\x18ftypmp42'
    noise = [np.random.RandomState(n).bytes(1 << 16) for n in range(30)]
    assert any(x.rfind(b'\xff\xda') > x.rfind(END) for x in noise)
    for rest in (b'\0', END, other, other[:-9], *(film + x for x in noise)):
        assert not is_cut_jpeg(whole + rest)
        assert not is_cut_jpeg(with_preview(whole) + rest)


def test_a_motion_photo_is_loaded(tmp_path):
    path = tmp_path / 'image.jpg'
    path.write_bytes(jpeg() + b'\0\0\0\x18ftypmp42\xff\xda' + bytes(99))
    image = LoadReadableImage()(dict(img_path=str(path)))['img']
    assert np.array_equal(image, mmcv.imfrombytes(jpeg()))


@pytest.mark.parametrize('marker', [b'\xff\xc0', b'\xff\xda', END])
def test_fill_bytes_and_markers_without_a_segment_are_passed(marker):
    whole = jpeg()
    assert whole.count(marker) == 1
    for more in (b'\xff', b'\xff\xff', b'\xff\x01'):
        data = whole.replace(marker, more + marker)
        assert not is_cut_jpeg(data)
        assert is_cut_jpeg(data[:-1])
        assert np.array_equal(decode(data), decode(whole))


@pytest.mark.parametrize('marker', [b'\xff\xe0', b'\xff\xdb', b'\xff\xda'])
@pytest.mark.parametrize('length', [0, 1, 3, 200])
def test_a_wrong_length_is_left_to_the_decoder(marker, length):
    whole = jpeg()
    at = whole.index(marker) + 2
    data = whole[:at] + length.to_bytes(2, 'big') + whole[at + 2 :]
    assert not is_cut_jpeg(data)


def test_a_segment_longer_than_the_file_is_cut():
    whole = jpeg()
    assert is_cut_jpeg(whole[:4] + b'\xff\xff' + whole[6:])


def test_damage_has_an_answer():
    generator = np.random.RandomState(0)
    answers = set()
    for _ in range(2000):
        data = bytearray(with_preview(jpeg('progressive')))
        for at in generator.randint(3, len(data), 5):
            data[at] = generator.choice([0, 1, 0xC4, 0xD9, 0xE5, 0xFF])
        answers.add(is_cut_jpeg(bytes(data)))
    assert answers == {False, True}


def test_what_is_no_jpeg_is_not_cut():
    png = cv2.imencode('.png', decode(jpeg()))[1].tobytes()
    noise = np.random.RandomState(0).bytes(999)
    for data in (b'', b'\xff', b'\xff\xd8', png[:-5], noise):
        assert not is_cut_jpeg(data)
