"""What there is to decide: accepting, queueing, believing, remembering."""
