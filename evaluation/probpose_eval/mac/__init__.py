"""Measuring CoreML files on a Mac, and what comes back."""
