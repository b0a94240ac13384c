//! Caps of a rule and of the whole: each is held, and told with its own code.

mod bodies;
mod rule;
mod ways;
