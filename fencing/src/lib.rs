//! Refuses what a holder writes that has lost its lock: for files, SQL, and object stores.
