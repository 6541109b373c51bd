"""What a whole sweep has found, for people: one page, the same as Markdown, and its trials as CSV."""
