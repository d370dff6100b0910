"""Fast execution of heads, one module a head type."""
