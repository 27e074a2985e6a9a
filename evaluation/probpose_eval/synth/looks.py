"""Sample how a drawn person looks: skin, hair, clothes and their textures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

TEXTURE_HW = (96, 96)
"""Rows run along the part, columns once around it; the middle column is its front."""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Textures are (96, 96, 3) float32 BGR, colours (3,) float32 BGR, lengths fractions of the part covered."""

    skin: Array
    hair: Array
    hair_texture: Array
    hair_kind: str  # one of HAIR_KINDS
    hair_rise: float  # height of the hairline
    hair_bulk: float  # size of the hair, skulls
    hair_length: float  # of long hair, half heads
    brim: bool  # of a hat
    lips: Array
    iris: Array
    beard: bool
    glasses: bool
    shirt: Array
    trousers: Array
    sleeve: Array
    shoes: Array
    socks: Array
    sleeve_length: float  # 0 none, 1 to the elbow, 2 to the wrist
    leg_length: float  # 0 none, 1 to the knee, 2 to the ankle
    skirt: float  # 0 none, else its length in thighs
    hem: float  # of the shirt above the hips, standing heights
    looseness: float
    sock_height: float  # share of the shank
    gloves: bool


def colour(rng: np.random.Generator, *, vivid: float = 1.0) -> Array:
    """A colour (3,) BGR: greys, darks and blues are more common than bright ones; `vivid` scales saturation."""
    draw = rng.random()
    if draw < 0.3:
        value = (rng.uniform(15, 60), rng.uniform(60, 200), rng.uniform(200, 250))[int(rng.integers(3))]
        base = value + rng.normal(0, 6, 3)
    else:
        hue = rng.uniform(3.3, 4.2) if draw < 0.45 else rng.uniform(0, 6)
        value, saturation = rng.uniform(40, 250), vivid * rng.beta(1.4, 1.7)
        # The usual HSV hexagon: each channel is a clipped triangle wave of the hue.
        wave = np.clip(np.abs((np.array([4.0, 2.0, 0.0]) - hue + 3) % 6 - 3) - 1, 0, 1)
        base = value * (1 - saturation * wave)
    return np.asarray(np.minimum(np.maximum(base, 5), 252), np.float32)


def cloth(rng: np.random.Generator, *, front: bool = False, vivid: float = 1.0) -> Array:
    """A texture (96, 96, 3): plain, stripes, checks, spots, blotches; `front`: a logo, a fastening or a number."""
    height, width = TEXTURE_HW
    base, second = colour(rng, vivid=vivid), colour(rng, vivid=vivid)
    texture = np.empty((height, width, 3), np.float32)
    texture[:] = base
    kind = rng.random()
    rows, columns = np.arange(height), np.arange(width)
    if kind < 0.12:  # rings
        texture[(rows // int(rng.integers(2, 11))) % 2 == 1] = second
    elif kind < 0.20:  # lengthwise stripes
        texture[:, (columns // int(rng.choice([2, 3, 6]))) % 2 == 1] = second
    elif kind < 0.30:  # checks
        size = int(rng.choice([3, 6, 12]))
        weight = ((rows[:, None] // size) % 2 + (columns // size) % 2).astype(np.float32)[..., None] / 2
        texture += weight * (second - base)
    elif kind < 0.36:  # spots
        size = int(rng.choice([6, 12]))
        spots = (rows[:, None] % size - size / 2) ** 2 + (columns % size - size / 2) ** 2 < (size * 0.3) ** 2
        texture[spots] = second
    elif kind < 0.45:  # blotches
        small = rng.random((int(rng.integers(4, 20)), int(rng.integers(4, 20))), np.float32)
        texture[cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) > 0.5] = second
    elif kind < 0.52:  # two blocks
        texture[: int(rng.integers(15, 75))] = second
    if front and kind > 0.3:
        _front(rng, texture, base, second)
    folds = cv2.resize(rng.random((24, 24), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    texture *= (1 + np.float32(rng.uniform(0.05, 0.35)) * (folds - np.float32(0.5)))[..., None]
    return np.asarray(np.minimum(np.maximum(texture, 0), 255))


def _front(rng: np.random.Generator, texture: Array, base: Array, second: Array) -> None:
    """Draw what a shirt has in the middle of its front, or on its back."""
    width = TEXTURE_HW[1]
    middle, feature = width // 2, rng.random()
    ink = second.tolist()
    if feature < 0.35:  # logo
        x, y, r = middle + int(rng.integers(-5, 6)), int(rng.integers(22, 44)), int(rng.integers(2, 10))
        if rng.random() < 0.5:
            cv2.circle(texture, (x, y), r, ink, -1)
        else:
            cv2.rectangle(texture, (x - r, y - r // 2), (x + r, y + r // 2), ink, -1)
            cv2.line(texture, (x - r, y), (x + r, y), base.tolist(), 1)
    elif feature < 0.55:  # open jacket
        half = int(rng.integers(3, 10))
        texture[:, middle - half : middle + half] = second
    elif feature < 0.7:  # zip or buttons
        texture[6:, middle] = second * np.float32(0.6)
    elif feature < 0.8:  # number on the back: the seam of the texture
        writing = np.zeros(TEXTURE_HW, np.uint8)  # cv2 writes text on bytes only
        cv2.putText(writing, str(rng.integers(1, 99)), (middle - 14, 54), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255,), 2)
        texture[np.roll(writing, middle, axis=1) > 0] = second


def _one_of(rng: np.random.Generator, *options: tuple[float, float]) -> float:
    """One of (share, value); the shares sum to 1. Cheaper than `Generator.choice`, which counts here."""
    draw = rng.random()
    for share, value in options:
        draw -= share
        if draw < 0:
            return value
    return options[-1][1]


def _strands(rng: np.random.Generator, hair: Array) -> Array:
    """Hair of one colour, in lengthwise strands, (2, 96, 3)."""
    shade = np.float32(0.8) + np.float32(0.4) * rng.random((1, TEXTURE_HW[1], 1), np.float32)
    return np.asarray(np.minimum(np.repeat(shade * hair, 2, axis=0), 255))


HAIR_KINDS = ("bald", "short", "long", "hat")

# Skin from light to dark, BGR.
_SKIN = np.array([[196, 214, 241], [160, 190, 230], [125, 160, 210], [90, 125, 180], [60, 90, 140], [40, 58, 95]])
_HAIR = np.array([[25, 25, 28], [30, 45, 70], [50, 80, 125], [95, 150, 195], [40, 70, 150], [175, 175, 175]], float)


def sample_looks(rng: np.random.Generator) -> Looks:
    """One person's looks."""
    place = rng.uniform(0, len(_SKIN) - 1.001)
    low = int(place)
    skin = _SKIN[low] + (place - low) * (_SKIN[low + 1] - _SKIN[low]) + rng.normal(0, 6, 3)
    hair = _HAIR[int(rng.integers(len(_HAIR)))] * rng.uniform(0.6, 1.2) if rng.random() < 0.96 else colour(rng)
    kind = HAIR_KINDS[int(np.searchsorted((0.08, 0.58, 0.85), rng.random()))]
    shirt = cloth(rng, front=True)
    trousers = cloth(rng)
    draw = rng.random()
    if draw < 0.12:  # one piece
        trousers = shirt
    if rng.random() < 0.5:  # plain trousers are the rule
        trousers = np.broadcast_to(colour(rng), shirt.shape) * (trousers.mean(2, keepdims=True) / trousers.mean())
    bare_skin = np.clip(skin, 20, 250).astype(np.float32)
    if rng.random() < 0.05:  # bare chest
        shirt = np.broadcast_to(bare_skin, shirt.shape).astype(np.float32)
    dressed = rng.random() < 0.12
    return Looks(
        skin=bare_skin,
        hair=np.clip(hair, 8, 250).astype(np.float32),
        hair_texture=_strands(rng, np.clip(hair, 8, 250).astype(np.float32)),
        hair_kind=kind,
        hair_rise=float(rng.uniform(-0.12, 0.2)),
        hair_bulk=_one_of(rng, (0.85, rng.uniform(1.03, 1.15)), (0.15, rng.uniform(1.15, 1.4))),
        hair_length=float(rng.uniform(0.9, 2.6)),
        brim=bool(rng.random() < 0.6),
        lips=(bare_skin * np.array([0.68, 0.62, 0.85]) * rng.uniform(0.8, 1.05)).astype(np.float32),
        iris=np.asarray(rng.uniform(10, 110, 3), np.float32),
        beard=bool(rng.random() < 0.15),
        glasses=bool(rng.random() < 0.12),
        shirt=shirt,
        trousers=np.clip(trousers, 0, 255).astype(np.float32),
        sleeve=shirt if rng.random() < 0.85 else cloth(rng),
        shoes=colour(rng) if rng.random() < 0.9 else bare_skin,
        socks=colour(rng),
        sleeve_length=_one_of(
            rng, (0.12, 0.0), (0.4, rng.uniform(0.35, 1.0)), (0.06, rng.uniform(1.2, 1.7)), (0.42, 2.0)
        ),
        leg_length=_one_of(rng, (0.27, rng.uniform(0.25, 1.0)), (0.06, rng.uniform(1.1, 1.6)), (0.67, 2.0)),
        skirt=float(rng.uniform(0.5, 1.9)) if dressed else 0.0,
        hem=_one_of(rng, (0.5, 0.02), (0.35, rng.uniform(-0.07, 0.02)), (0.15, rng.uniform(0.02, 0.06))),
        looseness=float(rng.uniform(1.0, 1.3)),
        sock_height=float(rng.uniform(0.08, 0.7)),
        gloves=bool(rng.random() < 0.06),
    )
