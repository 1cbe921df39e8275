//! [`ticketlock_fuzz::records`] under libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ticketlock_fuzz::records(bytes));
