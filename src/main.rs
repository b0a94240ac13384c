//! The `keyferry` binary: parses the command line and leaves the rest to the library.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    keyferry::cli::main()
}
