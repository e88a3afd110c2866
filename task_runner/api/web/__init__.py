"""The web page: its files, and the login of those who look at it."""
