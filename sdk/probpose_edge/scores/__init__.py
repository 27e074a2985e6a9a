"""Scores of persons that foretell their accuracy."""
