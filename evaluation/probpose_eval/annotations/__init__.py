"""COCO-style sets: reading, writing, cropping."""
