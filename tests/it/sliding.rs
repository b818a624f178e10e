//! Sessions that slide, with time in the test's hands: how often the store hears of it, what it
//! hears of at the end, and how long a stream stays open on one.

mod elsewhere;
mod kept;
mod pace;
mod replica;
mod streams;
