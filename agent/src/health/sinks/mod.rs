//! Where reports go.

pub(crate) mod http;
pub(crate) mod textfile;
