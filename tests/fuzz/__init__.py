"""The fuzz target of the engine: docs/evidence/fuzzing.md says how to run it, and what it found."""
