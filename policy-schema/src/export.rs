//! What is generated from the one list of settings. Nothing here is written by hand anywhere else.

pub mod reference;
