"""How plans and reports are printed: a table for people, documents for scripts, and the page for the browser."""
