"""What a comparison's numbers hide: margins, magnitudes, wins by group, kept vectors, neighbours of terms, single cases."""
