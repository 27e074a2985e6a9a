"""What models said of the persons of a set, and how far files drift from each other."""
