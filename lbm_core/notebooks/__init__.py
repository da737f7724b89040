"""Running, checking and storing the notebooks."""
