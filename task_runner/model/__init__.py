"""Pure: what a task is, which states it goes through, and the records of what happened. No I/O, no clock."""
