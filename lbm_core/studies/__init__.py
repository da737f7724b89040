"""What each chapter compares, one module per chapter, on top of the Lab."""
