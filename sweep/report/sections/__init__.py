"""The sections of the page, a file and a template each; table.py has their order."""
