//! The command `ticketlock`: the server, and everything that a shell or a script needs of the service.
//!
//! It talks to a server through the public client alone; what it can do, any program can.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
