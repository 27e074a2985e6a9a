"""What calibrated maps and presence tell: regions, zones, covariances, thresholds."""
