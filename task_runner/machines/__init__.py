"""What an action does. Imported only inside a runner, so the standard library is all there is."""
