"""What a file says about itself, and the self-test it carries."""
