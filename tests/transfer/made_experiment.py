"""The smallest experiment of Mini-Taskonomy that everything can be computed from."""

from __future__ import annotations

from dds_transfer.minitaskonomy.run import Settings

# Of the ranking images the attribution methods make two blocks, the second not whole.
TINY = Settings(train=8, transfer=8, test=6, ranking=10, steps=1, readout_steps=1, draws=2)
