"""The command line of probpose-edge."""
