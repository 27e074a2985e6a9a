"""Sample how a drawn person looks: skin, hair, clothes and their textures."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]

TEXTURE_HW = (128, 128)
"""Rows run along the part, columns once around it; the middle column is its front."""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Textures are (128, 128, 3) float32 BGR, colours (3,) float32 BGR, lengths fractions of the part covered."""

    skin: Array
    hair: Array
    hair_kind: str  # "bald", "short", "long", "hat"
    hair_rise: float
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
    looseness: float
    gloves: bool


def colour(rng: np.random.Generator) -> Array:
    """A clothing colour: greys, darks and blues are more common than bright ones."""
    draw = rng.random()
    if draw < 0.3:
        value = rng.choice([rng.uniform(15, 60), rng.uniform(60, 200), rng.uniform(200, 250)])
        base = np.full(3, value) + rng.normal(0, 6, 3)
    else:
        hue = rng.uniform(100, 125) if draw < 0.45 else rng.uniform(0, 180)
        hsv = np.array([[[hue, rng.uniform(40, 255), rng.uniform(40, 250)]]], np.uint8)
        base = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR)[0, 0].astype(np.float64)
    return np.asarray(np.clip(base, 5, 252), np.float32)


def cloth(rng: np.random.Generator, *, front: bool = False) -> Array:
    """A texture (128, 128, 3): plain, stripes, checks, spots, blotches; with a logo or a fastening in front."""
    height, width = TEXTURE_HW
    base, second = colour(rng), colour(rng)
    texture = np.empty((height, width, 3), np.float32)
    texture[:] = base
    kind = rng.random()
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    if kind < 0.12:  # rings
        texture[(rows[:, 0] // int(rng.integers(3, 14))) % 2 == 1] = second
    elif kind < 0.20:  # lengthwise stripes
        texture[:, (columns[0] // int(rng.choice([2, 4, 8]))) % 2 == 1] = second
    elif kind < 0.30:  # checks
        size = int(rng.choice([4, 8, 16]))
        weight = (((rows // size) % 2) + ((columns // size) % 2)).astype(np.float32)[..., None] / 2
        texture += weight * (second - base)
    elif kind < 0.36:  # spots
        size = int(rng.choice([8, 16]))
        spots = ((rows % size - size / 2) ** 2 + (columns % size - size / 2) ** 2) < (size * 0.3) ** 2
        texture[spots] = second
    elif kind < 0.45:  # blotches
        small = rng.random((int(rng.integers(4, 24)), int(rng.integers(4, 24)))).astype(np.float32)
        blotch = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
        texture[blotch > 0.5] = second
    elif kind < 0.52:  # two blocks
        texture[: int(rng.integers(20, 100))] = second
    if front and kind > 0.3:
        feature = rng.random()
        if feature < 0.35:  # logo
            x, y, r = 64 + int(rng.integers(-6, 7)), int(rng.integers(30, 56)), int(rng.integers(3, 12))
            if rng.random() < 0.5:
                cv2.circle(texture, (x, y), r, second.tolist(), -1)
            else:
                cv2.rectangle(texture, (x - r, y - r // 2), (x + r, y + r // 2), second.tolist(), -1)
                cv2.line(texture, (x - r, y), (x + r, y), base.tolist(), 2)
        elif feature < 0.55:  # open jacket
            cv2.rectangle(texture, (58 - int(rng.integers(0, 5)), 0), (70, 127), second.tolist(), -1)
        elif feature < 0.7:  # zip or buttons
            cv2.line(texture, (64, 8), (64, 127), (second * 0.6).tolist(), 1)
        elif feature < 0.78:  # number on the back
            ink = np.zeros(TEXTURE_HW, np.uint8)  # cv2 writes text on bytes only
            cv2.putText(ink, str(rng.integers(1, 99)), (48, 70), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (255,), 3)
            texture[np.roll(ink, width // 2, axis=1) > 0] = second
    grain = rng.random((32, 32)).astype(np.float32)
    folds = cv2.resize(grain, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    texture *= 1 + float(rng.uniform(0.05, 0.35)) * (folds - 0.5)
    return np.asarray(np.clip(texture, 0, 255), np.float32)


# Skin from light to dark, BGR.
_SKIN = np.array([[196, 214, 241], [160, 190, 230], [125, 160, 210], [90, 125, 180], [60, 90, 140], [40, 58, 95]], float)
_HAIR = np.array([[25, 25, 28], [30, 45, 70], [50, 80, 125], [95, 150, 195], [40, 70, 150], [175, 175, 175]], float)


def sample_looks(rng: np.random.Generator) -> Looks:
    """One person's looks."""
    place = rng.uniform(0, len(_SKIN) - 1.001)
    low = int(place)
    skin = _SKIN[low] + (place - low) * (_SKIN[low + 1] - _SKIN[low]) + rng.normal(0, 6, 3)
    hair = _HAIR[int(rng.integers(len(_HAIR)))] * rng.uniform(0.6, 1.2) if rng.random() < 0.96 else colour(rng)
    kind = str(rng.choice(["bald", "short", "long", "hat"], p=[0.08, 0.5, 0.27, 0.15]))
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
        hair_kind=kind,
        hair_rise=float(rng.uniform(-0.12, 0.2)),
        lips=(bare_skin * np.array([0.68, 0.62, 0.85]) * rng.uniform(0.8, 1.05)).astype(np.float32),
        iris=np.asarray(rng.uniform(10, 110, 3), np.float32),
        beard=bool(rng.random() < 0.15),
        glasses=bool(rng.random() < 0.12),
        shirt=shirt,
        trousers=np.clip(trousers, 0, 255).astype(np.float32),
        sleeve=shirt if rng.random() < 0.85 else cloth(rng),
        shoes=colour(rng) if rng.random() < 0.9 else bare_skin,
        socks=colour(rng),
        sleeve_length=float(rng.choice([0.0, rng.uniform(0.35, 1.0), rng.uniform(1.2, 1.7), 2.0], p=[0.12, 0.4, 0.06, 0.42])),
        leg_length=float(rng.choice([rng.uniform(0.25, 1.0), rng.uniform(1.1, 1.6), 2.0], p=[0.27, 0.06, 0.67])),
        skirt=float(rng.uniform(0.5, 1.9)) if dressed else 0.0,
        looseness=float(rng.uniform(1.0, 1.3)),
        gloves=bool(rng.random() < 0.06),
    )
