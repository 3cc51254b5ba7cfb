//! Where reports go.

pub(crate) mod http;
