"""Fitting what files say of themselves: maps, presence, quality, scores."""
