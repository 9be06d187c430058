"""Parts that otherwise a user would have to install: for the demo, the tests and a first try, never for production."""
