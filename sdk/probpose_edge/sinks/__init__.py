"""Where poses go: pictures, videos, JSON lines, COCO results, a window."""
