"""Noise that is a pure function of a seed and a position: no state, any order, the same on every machine."""

from __future__ import annotations

_MASK = 0xFFFF_FFFF_FFFF_FFFF


def uniform(seed: int, index: int) -> float:
    """Return a number in [0, 1) that depends on nothing but the two arguments.

    The mixing steps are those of SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number
    generators", OOPSLA 2014).
    """
    mixed = (seed * 0xD134_2543_DE82_EF95 + index * 0x9E37_79B9_7F4A_7C15) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58_476D_1CE4_E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D0_49BB_1331_11EB) & _MASK
    return ((mixed ^ (mixed >> 31)) >> 11) / (1 << 53)


def smooth(seed: int, position: float) -> float:
    """Return a value in [0, 1) that glides from one random value at each whole number to the next."""
    index = int(position // 1)
    fraction = position - index
    ease = fraction * fraction * (3.0 - 2.0 * fraction)
    return uniform(seed, index) * (1.0 - ease) + uniform(seed, index + 1) * ease
