"""Easy persons to a small model, hard ones to a large one: the router, its thresholds, and the estimator that uses it."""
