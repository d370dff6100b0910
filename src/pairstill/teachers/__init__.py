"""Models in the role of teacher: loading them, annotating with them, and the scores they leave behind."""
