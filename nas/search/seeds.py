"""Seeds derived from names."""

from hashlib import sha256


def trial_seed(seed: int, number: int, use: str = "") -> int:
    """The seed of trial `number` in a search with `seed`, 32 bits; `use` tells several of one trial apart."""
    return int.from_bytes(sha256(f"{seed}:{number}:{use}".encode()).digest()[:4], "big")
