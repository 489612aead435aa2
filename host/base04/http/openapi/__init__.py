"""The OpenAPI 3.1 description of what a caller may do, and the page that shows it."""
