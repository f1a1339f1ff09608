"""What results look like on a terminal: tables, and the lines that stand under them."""
