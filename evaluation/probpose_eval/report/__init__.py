"""What conversion cost, on one page."""
