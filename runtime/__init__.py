"""From an exported model to poses on images and video; never needs torch."""
