//! Decides what reference counts allow: pure, without I/O.
