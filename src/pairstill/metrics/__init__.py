"""Quality of scores, their agreement, their calibration, and whether a difference is significant."""
