"""The embedded image set: the same everywhere, disjoint streams, balanced, readable."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign import glyphs

# What generate("val", count=200) draws: every pixel and label. A change here means that
# checkpoints, targets and caches of the glyphs are void: raise glyphs.VERSION and make them again.
EXPECTED_SHA256 = "f4949757efa0b688ef8921f8c46461e214d264d91328acde6b09dea543ae36b0"


def sha256(images: np.ndarray, labels: np.ndarray) -> str:
    return hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return glyphs.generate("val", count=200)


def test_images_are_the_same_everywhere(drawn):
    assert sha256(*drawn) == EXPECTED_SHA256


def test_shape_type_and_balance(drawn):
    images, labels = drawn
    assert images.shape == (200, 3, 32, 32)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [20] * 10
    assert labels.tolist() != sorted(labels.tolist())


def test_splits_and_seeds_draw_different_images():
    streams = [("train", 0), ("val", 0), ("test", 0), ("test", 1), ("train", 1)]
    drawn = [glyphs.generate(split, seed, 50)[0] for split, seed in streams]
    seen = {image.tobytes() for images in drawn for image in images}
    assert len(seen) == 50 * len(streams)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**40), count=st.integers(1, 70), more=st.integers(1, 60))
def test_the_seed_decides_and_chunks_do_not_depend_on_the_count(seed, count, more):
    images, labels = glyphs.generate("test", seed, count)
    again, same_labels = glyphs.generate("test", seed, count)
    assert np.array_equal(images, again)
    assert np.array_equal(labels, same_labels)
    whole = count // glyphs.CHUNK * glyphs.CHUNK
    longer, _ = glyphs.generate("test", seed, count + more)
    assert np.array_equal(images[:whole], longer[:whole])


def test_the_global_random_state_is_neither_used_nor_changed():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    first = glyphs.generate("val", count=10)[0]
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    assert np.array_equal(first, glyphs.generate("val", count=10)[0])


def test_images_have_contrast_and_differ_within_a_class(drawn):
    images, labels = drawn
    assert images.reshape(200, -1).std(1).min() > 5
    of_one_class = images[labels == 0]
    assert len({image.tobytes() for image in of_one_class}) == len(of_one_class)


def test_every_letter_has_ink_within_its_box_in_every_typeface():
    masks = glyphs.letter_masks()
    assert masks.shape == (len(glyphs.TYPEFACES), 26, glyphs.MASK_SIDE, glyphs.MASK_SIDE)
    assert (masks.max((2, 3)) > 0.9).all()
    border = np.concatenate(
        [masks[..., 0, :], masks[..., -1, :], masks[..., 0], masks[..., -1]], -1
    )
    assert border.mean() < 0.01, "letters cut off at the edge"
    letters = masks[:, : len(glyphs.LETTERS)]
    for face in letters:
        assert len({mask.tobytes() for mask in face}) == len(glyphs.LETTERS)


def test_a_blur_keeps_flat_images_and_their_mean():
    flat = np.full((2, 3, 32, 32), 0.25)
    assert np.allclose(glyphs._blur(flat, np.ones(2)), 0.25)
    dot = np.zeros((1, 3, 32, 32))
    dot[..., 16, 16] = 1
    assert np.isclose(glyphs._blur(dot, np.ones(1)).sum(), 3)
    assert np.array_equal(glyphs._blur(dot, np.zeros(1)), dot)


def test_bilinear_sampling_against_one_pixel_at_a_time():
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(3, 10, 10))
    y, x = rng.uniform(0, 8.9, (2, 3, 4, 4))
    got = glyphs._bilinear(masks, y, x)
    for index in np.ndindex(got.shape):
        n, (v, u) = index[0], (y[index], x[index])
        i, j = int(v), int(u)
        corners = masks[n, i : i + 2, j : j + 2]
        weights = np.outer([1 - (v - i), v - i], [1 - (u - j), u - j])
        assert np.isclose(got[index], (corners * weights).sum())


@pytest.mark.parametrize(
    ("split", "seed", "count"), [("dev", 0, 10), ("val", -1, 10), ("val", 0, 0), ("val", 0, -5)]
)
def test_wrong_arguments_are_refused(split, seed, count):
    with pytest.raises(ValueError, match=r"allowed: .*train.*seed >= 0, count >= 1"):
        glyphs.generate(split, seed, count)
