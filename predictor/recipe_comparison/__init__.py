"""Recipes of products compared on common mini-batches: rows, what is kept, the table, and what it is going to take."""
