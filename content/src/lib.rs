//! Writes content that several nodes share once, under locks, with reference counts.
