"""Proposals of images that may show the same field: they share rare words, where a word is a kind of point.

Video Google (Sivic & Zisserman 2003): each descriptor is rounded to the nearest of some thousand centres, so that
images are compared by a sparse product and not point by point. Finding the words grows with the number of images; the
product with its square, at some ten operations a pair.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ..measure.keypoints import MIRRORED, Texture
from .overlay import root_descriptors

WORDS = 4096  # centres; as many again are their mirror images
POINTS_PER_WORD = 8  # a small cohort has fewer words
# Small images have fewer words too: what two of them share by chance grows with their points and falls with the words.
WORDS_PER_POINT = 14  # of the image with the most points
SAMPLE = 60_000  # points that the centres are learned from
ROUNDS = 4
POINTS_CHUNK = 8192
IMAGES_CHUNK = 512
MOST_CANDIDATES = 10  # of one image; of copies of 256 px that were spoilt twice one in twenty comes later
COMMON = 0.5  # weight of words shared at any angle beside those that agree on the turn between two images


def propose_pairs(textures: Sequence[Texture]) -> list[tuple[int, int, bool]]:
    """Return (first, second, whether to mirror the second) for the images that share most words, in order."""
    counts = [len(t.points) for t in textures]
    if len(textures) < 2 or not sum(counts):
        return []
    descriptors = np.concatenate([t.descriptors for t in textures])
    angles = np.concatenate([t.angles for t in textures])
    images = np.repeat(np.arange(len(textures)), counts)
    # Centres (W, 128) of a sample by spherical k-means (Lloyd 1982): unit vectors. The first points of the sample
    # start, so that equal images give equal bytes.
    sample = np.random.default_rng(0).permutation(len(descriptors))[:SAMPLE]
    rows = root_descriptors(descriptors[sample])
    centres = rows[: max(1, min(WORDS, WORDS_PER_POINT * max(counts), len(rows) // POINTS_PER_WORD))]
    for _ in range(ROUNDS):
        nearest = _find_words(descriptors[sample], centres)
        ones = np.ones(len(rows), np.float32)
        members = sparse.csr_matrix((ones, (nearest, np.arange(len(rows)))), shape=(len(centres), len(rows)))
        sums = members @ rows
        sums = np.where(sums.any(axis=1, keepdims=True), sums, centres)
        centres = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
    centres = np.asarray(centres, dtype=np.float32)
    symmetric = np.concatenate([centres, centres[:, MIRRORED]])
    words = _find_words(descriptors, symmetric)
    shape = (len(textures), len(symmetric))
    plain = _tabulate(images, words, angles=angles, shape=shape)
    mirrored = (words + len(centres)) % len(symmetric)
    flipped = _tabulate(images, mirrored, angles=np.float32(np.pi) - angles, shape=shape)
    others = [other.conj().T.tocsr() for other in (plain, flipped)]
    found: set[tuple[int, int, bool]] = set()
    for start in range(0, len(textures), IMAGES_CHUNK):
        some = plain[start : start + IMAGES_CHUNK]
        likeness = []
        for other in others:  # shared words; those that agree on the turn count more
            agreeing, shared = (some @ other).toarray(), (abs(some) @ abs(other)).toarray()
            likeness.append(np.asarray(np.abs(agreeing) + COMMON * shared, dtype=np.float32))
        found |= _pick(np.stack(likeness, axis=2), start=start)
    return sorted(found)


def _find_words(descriptors: NDArray[np.uint8], centres: NDArray[np.float32]) -> NDArray[np.intp]:
    chunks = (descriptors[i : i + POINTS_CHUNK] for i in range(0, len(descriptors), POINTS_CHUNK))
    return np.concatenate([(root_descriptors(chunk) @ centres.T).argmax(axis=1) for chunk in chunks])


def _tabulate(
    images: NDArray[np.intp], words: NDArray[np.intp], *, angles: NDArray[np.float32], shape: tuple[int, int]
) -> sparse.csr_matrix:
    """Return directions of points in the complex plane (images, words), weighted by rarity of words; unit rows.

    In a product of two rows the turns between points that truly are the same agree and add up, others cancel
    (weak geometric consistency, Jegou et al. 2008).
    """
    table = sparse.csr_matrix((np.exp(1j * angles).astype(np.complex64), (images, words)), shape=shape)
    table.data /= np.maximum(np.abs(table.data), 1e-6)  # a word counts once, however often it is there
    known = np.bincount(table.indices, minlength=shape[1])
    rarity = np.log1p(shape[0] / np.maximum(known, 1)).astype(np.float32)
    table = table @ sparse.diags(rarity)
    lengths = sparse.linalg.norm(table, axis=1).astype(np.float32)
    return sparse.diags(1 / np.maximum(lengths, np.float32(1e-6))) @ table


def _pick(likeness: NDArray[np.float32], *, start: int) -> set[tuple[int, int, bool]]:
    """Return the most alike of each row of (images from ``start``, all images, plain and mirrored)."""
    mine = np.arange(len(likeness))
    likeness[mine, start + mine] = -1
    flat = likeness.reshape(len(likeness), -1)
    most = min(MOST_CANDIDATES, flat.shape[1])
    best = np.argpartition(-flat, most - 1, axis=1)[:, :most]
    found = set()
    for row, columns in enumerate(best.tolist()):
        for other, mirrored in (divmod(column, 2) for column in columns):
            if other != start + row:
                found.add((min(start + row, other), max(start + row, other), bool(mirrored)))
    return found
