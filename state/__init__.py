"""What is wanted, what is there and what is ours, as data. Imports nothing else of the project."""
