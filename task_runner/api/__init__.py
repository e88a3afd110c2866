"""HTTP. star_app.py puts everything together."""
