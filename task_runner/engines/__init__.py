"""Container engines behind one small interface. Each loads its client library when it is used, not before."""
