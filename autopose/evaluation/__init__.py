"""Figures of merit: COCO average precision, PCK, and the loop that feeds them."""
