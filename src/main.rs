//! The command `ticketlock`: the server, and everything that a shell or a script needs of the service.
//!
//! It talks to a server through the public client alone; what it can do, any program can.

mod cli;

fn main() -> std::process::ExitCode {
    #[cfg(feature = "planted")]
    if let Ok(name) = std::env::var("TICKETLOCK_PLANTED") {
        assert!(ticketlock_core::planted::plant(&name), "there is no defect {name}");
    }
    cli::main()
}
