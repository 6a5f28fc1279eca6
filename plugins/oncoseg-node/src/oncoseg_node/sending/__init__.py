"""Objects out, and the proof that they arrived."""
