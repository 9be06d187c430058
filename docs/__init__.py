"""The documentation: its pages, the site that is built from them, and the pages that are written from the code."""
