"""What turns one field's text into a representation."""
