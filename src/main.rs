//! Starts the program and turns its outcome into an exit status.

fn main() {}
