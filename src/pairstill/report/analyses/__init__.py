"""Analyses as pictures, as parts of the HTML report, and as CSV."""
