"""One architecture a file: the networks of the papers' tables."""
