"""What is written down in papers and standards, as tables: no classes, no rules."""
