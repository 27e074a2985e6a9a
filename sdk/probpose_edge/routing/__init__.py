"""Easy persons to a small model, hard ones to a large one: routers, thresholds, and the estimator that uses them."""
