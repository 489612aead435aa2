"""A lending library for Base04: ``library.yaml`` says what there is, ``handlers`` does it, ``plugin`` adds a pack."""
