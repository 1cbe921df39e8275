//! The command `ticketlock`: the server, and everything that a shell or a script needs of the service.
//!
//! It talks to a server through the public client alone; what it can do, any program can.

mod cli;

/// Locks come and go in small pieces, on one thread and another: the system's allocator costs a tenth of a server's time.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    cli::main()
}
