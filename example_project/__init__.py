"""A small help-centre that shows aicache at work; for trying things on your own machine, not for the internet."""

from __future__ import annotations
