"""Decisions only: no Django, no Redis, no SDK, no clock of its own."""
