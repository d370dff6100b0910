"""Training objectives, each stating the shapes and the kind of score that it takes."""
