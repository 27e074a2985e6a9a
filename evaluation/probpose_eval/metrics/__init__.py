"""Figures: OKS, AP, Ex-AP, calibration of every head, intervals."""
